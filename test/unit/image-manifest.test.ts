import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { describeImage, readLayout } from '../../src/image/manifest.ts';
import { removeTree } from '../../src/lib/files.ts';
import { sha256 } from '../../images/layout.ts';

const directory = await mkdtemp(join(tmpdir(), 'caisson-manifest-'));
after(() => removeTree(directory));

const DIFF_IDS = ['1', '2'].map((digit) => `sha256:${digit.repeat(64)}`);
const LAYERS = DIFF_IDS.map((digest) => ({ digest, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }));
const CONFIG = { os: 'linux', architecture: 'amd64', rootfs: { diff_ids: DIFF_IDS } };

async function blob(content: unknown): Promise<string> {
  const data = typeof content === 'string' ? content : JSON.stringify(content);
  await writeFile(join(directory, sha256(data).slice('sha256:'.length)), data);
  return sha256(data);
}

async function read(config: unknown, layers: unknown = LAYERS) {
  const digest = await blob({ config: { digest: await blob(config) }, layers });
  return describeImage(directory, digest, 'a.test/x:1');
}

describe('manifest and config', () => {
  it('are read whole', async () => {
    const config = {
      User: 'app:1000',
      Env: ['A=1'],
      Entrypoint: ['/entry'],
      Cmd: ['-x'],
      WorkingDir: '/srv',
      Volumes: { '/data': {} },
      StopSignal: 'SIGINT',
      Labels: { a: 'b' },
      Unknown: { anything: true },
    };
    const image = await read({ ...CONFIG, config, history: [{}] });
    assert.deepEqual(image.config, {
      user: 'app:1000',
      env: ['A=1'],
      entrypoint: ['/entry'],
      cmd: ['-x'],
      workingDir: '/srv',
      volumes: ['/data'],
      stopSignal: 'SIGINT',
      labels: { a: 'b' },
    });
    assert.deepEqual(
      image.layers,
      DIFF_IDS.map((diffId) => ({ blobDigest: diffId, diffId })),
    );
  });

  it('may be null where they may be absent', async () => {
    const nothing = Object.fromEntries(
      ['User', 'Env', 'Entrypoint', 'Cmd', 'Volumes', 'Labels'].map((key) => [key, null]),
    );
    const images = [
      await read({ ...CONFIG, config: nothing }),
      await read({ ...CONFIG, config: null }),
      await read(CONFIG),
    ];
    for (const { config } of images) {
      const empty = {
        user: '',
        env: [],
        entrypoint: [],
        cmd: [],
        workingDir: '',
        volumes: [],
        stopSignal: '',
        labels: {},
      };
      assert.deepEqual(config, empty);
    }
  });

  const refused: [what: string, config: unknown, layers: unknown, message: RegExp][] = [
    ['no layers', { ...CONFIG, rootfs: null }, null, /^image a\.test\/x:1 has no layers: /],
    ['layers without diff ids', { ...CONFIG, rootfs: { diff_ids: [] } }, LAYERS, /has 2 layers but its config lists 0/],
    ['wrong types', { ...CONFIG, config: { Env: {} } }, LAYERS, /invalid config: .*Env/],
    ['a diff id with a path', { rootfs: { diff_ids: ['sha256:../../x', 'y'] } }, LAYERS, /not a sha256 digest/],
    ['no JSON', '{', LAYERS, /invalid config: it is not JSON/],
    [
      'other things than images',
      CONFIG,
      [{ ...LAYERS[0], mediaType: 'application/wasm' }],
      /not a container image.*wasm/,
    ],
    ['other machines', { ...CONFIG, architecture: 's390x' }, LAYERS, /made for linux\/s390x/],
    ['other systems', { ...CONFIG, os: 'windows' }, LAYERS, /made for windows\/amd64/],
    ['a thousand layers', CONFIG, Array.from({ length: 1000 }, () => LAYERS[0]), /invalid manifest/],
    ['huge documents', `"${'x'.repeat(5_000_000)}"`, LAYERS, /JSON document of 5000002 bytes/],
  ];
  for (const [what, config, layers, message] of refused) {
    it(`refuse ${what}`, async () => {
      await assert.rejects(read(config, layers), { name: 'CaissonError', code: 'failed_precondition', message });
    });
  }

  it('refuse a blob that has other content than its name says', async () => {
    const config = sha256('other');
    await writeFile(join(directory, config.slice('sha256:'.length)), JSON.stringify(CONFIG));
    const digest = await blob({ config: { digest: config }, layers: LAYERS });
    await assert.rejects(describeImage(directory, digest, 'x'), {
      code: 'failed_precondition',
      message: /corrupt blob/,
    });
  });

  it('a directory without index is no layout', async () => {
    await assert.rejects(readLayout(directory), { code: 'invalid_argument', message: /not an OCI image layout/ });
  });
});
