import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { stringify } from 'smol-toml';
import { run } from '../../src/lib/exec.ts';
import { freePort, REGISTRY_USER } from '../support/registry.ts';
import { imageLab, LIVE, startProxy, tinyImage } from './image-setup.ts';

const notRoot = process.getuid?.() === 0 ? false : 'needs root';

describe('registries', () => {
  it('a mirror serves what its registry is asked for', async () => {
    await using lab = await imageLab();
    await lab.push('library/tiny:latest', tinyImage('a'));
    const mirror = [{ location: lab.registry.host, insecure: true }];
    await using images = await lab.open([{ prefix: 'docker.io', location: '127.0.0.1:1', mirror }]);
    const image = await images.pull('tiny', undefined, LIVE);
    assert.deepEqual(image.repoTags, ['docker.io/library/tiny:latest']);
    assert.equal(images.find('tiny')?.id, image.id);
    assert.equal(images.find('docker.io/tiny:latest')?.id, image.id);
  });

  it('another location serves a prefix, with the credentials for the registry', async () => {
    await using lab = await imageLab({ auth: true });
    await lab.push('mine/tiny:1', tinyImage('a'));
    const location = `${lab.registry.host}/mine`;
    await using images = await lab.open([{ prefix: 'registry.test/team', location, insecure: true }]);
    const image = await images.pull('registry.test/team/tiny:1', REGISTRY_USER, LIVE);
    assert.deepEqual(image.repoTags, ['registry.test/team/tiny:1']);
  });

  it('a blocked one is not asked, wherever it is', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    const mirror = [{ location: lab.registry.host, insecure: true }];
    const blocked = { prefix: 'registry.test', location: lab.registry.host, insecure: true, blocked: true, mirror };
    await using images = await lab.open([blocked]);
    const expected = { code: 'permission_denied', message: /registry\.test\/tiny:1: .*blocked/ };
    await assert.rejects(images.pull('registry.test/tiny:1', undefined, LIVE), expected);
  });

  it('plain HTTP is refused unless the configuration allows it', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open([]);
    const expected = { code: 'unavailable', message: /HTTP response to HTTPS/, hint: /insecure/ };
    await assert.rejects(images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE), expected);
  });

  it("the system's registries.conf and its drop-ins are in force", { skip: notRoot }, async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    const { host } = lab.registry;
    const etc = join(lab.directory, 'etc');
    await mkdir(join(etc, 'registries.conf.d'), { recursive: true });
    await writeFile(join(etc, 'policy.json'), '{"default": [{"type": "insecureAcceptAnything"}]}');
    const registry = [
      { prefix: 'registry.test', location: '127.0.0.1:1', mirror: [{ location: host, insecure: true }] },
    ];
    await writeFile(join(etc, 'registries.conf'), stringify({ registry }));
    const insecure = [{ location: host, insecure: true }];
    await writeFile(join(etc, 'registries.conf.d/x.conf'), stringify({ registry: insecure }));
    // in a mount namespace, where another directory is /etc/containers
    const elsewhere = 'mount --bind "$1" /etc/containers; shift; exec "$@"';
    const pull = async (name: string): Promise<string> => {
      const puller = [process.execPath, join(import.meta.dirname, 'image-puller.ts'), lab.directory, name];
      const { stdout } = await run('unshare', ['--mount', 'sh', '-ec', elsewhere, 'sh', etc, ...puller]);
      return stdout.trim();
    };
    for (const name of ['registry.test/tiny:1', `${host}/tiny:1`]) assert.ok((await pull(name)).includes(name));
  });

  it('credentials come from the request, in each of their forms', async () => {
    await using lab = await imageLab({ auth: true });
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open();
    const name = `${lab.registry.host}/tiny:1`;
    await images.pull(name, REGISTRY_USER, LIVE);
    const auth = Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64');
    await images.pull(name, { username: '', password: '', auth, identityToken: '' }, LIVE);
  });

  it('an image that the signature policy refuses is untrusted, also one that is here already', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    const policyFile = join(lab.directory, 'policy.json');
    const write = (type: string) => writeFile(policyFile, JSON.stringify({ default: [{ type }] }));
    await write('insecureAcceptAnything');
    await using images = await lab.open(undefined, { signature_policy: policyFile });
    const name = `${lab.registry.host}/tiny:1`;
    await images.pull(name, undefined, LIVE);
    await write('reject');
    await assert.rejects(images.pull(name, undefined, LIVE), { code: 'untrusted', message: /tiny:1: .*rejected/ });
    await write('nonsense');
    await assert.rejects(images.pull(name, undefined, LIVE), { code: 'failed_precondition', message: /policy\.json/ });
    assert.ok(images.find(name), 'what is here stays for the pods that use it');
  });

  it('a signature by the right key is what a policy may ask for', async () => {
    await using lab = await imageLab();
    const { host } = lab.registry;
    const keys = join(lab.directory, 'keys');
    await mkdir(keys);
    const passphrase = join(keys, 'passphrase');
    await writeFile(passphrase, 'open sesame\n');
    for (const key of ['ours', 'theirs'])
      await run('skopeo', [
        'generate-sigstore-key',
        `--output-prefix=${join(keys, key)}`,
        `--passphrase-file=${passphrase}`,
      ]);
    const attachments = 'default-docker: {use-sigstore-attachments: true}\n';
    // beside the registry, and in the home of the store's skopeo
    for (const directory of [
      join(lab.directory, 'registries.d'),
      join(lab.root, 'skopeo/.config/containers/registries.d'),
    ]) {
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, 'x.yaml'), attachments);
    }
    await lab.push('plain:1', tinyImage('a'));
    for (const key of ['ours', 'theirs'])
      await run('skopeo', [
        `--registries.d=${join(lab.directory, 'registries.d')}`,
        'copy',
        '--src-tls-verify=false',
        '--dest-tls-verify=false',
        `--sign-by-sigstore-private-key=${join(keys, key)}.private`,
        `--sign-passphrase-file=${passphrase}`,
        `docker://${host}/plain:1`,
        `docker://${host}/${key}:1`,
      ]);
    const signed = { type: 'sigstoreSigned', keyPath: join(keys, 'ours.pub') };
    const policyFile = join(lab.directory, 'policy.json');
    await writeFile(policyFile, JSON.stringify({ default: [signed] }));
    await using images = await lab.open(undefined, { signature_policy: policyFile });
    await images.pull(`${host}/ours:1`, undefined, LIVE);
    for (const name of ['theirs:1', 'plain:1'])
      await assert.rejects(images.pull(`${host}/${name}`, undefined, LIVE), { code: 'untrusted' }, name);
  });

  it('wrong and missing credentials are permission_denied, for an image that is here too', async () => {
    await using lab = await imageLab({ auth: true });
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open();
    const name = `${lab.registry.host}/tiny:1`;
    await images.pull(name, REGISTRY_USER, LIVE);
    const expected = { code: 'permission_denied', message: /tiny:1: .*(?:unauthorized|authentication required)/ };
    await assert.rejects(images.pull(name, { ...REGISTRY_USER, password: 'wrong' }, LIVE), expected);
    await assert.rejects(images.pull(name, undefined, LIVE), expected);
  });

  it('a missing image or tag is not_found', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open();
    for (const name of ['tiny:2', 'nothing:1', `tiny@sha256:${'0'.repeat(64)}`]) {
      const pull = images.pull(`${lab.registry.host}/${name}`, undefined, LIVE);
      await assert.rejects(pull, { code: 'not_found', message: new RegExp(`cannot pull .*${name}: .*unknown`) });
    }
  });

  it('an unreachable, failing or throttling one is unavailable', async () => {
    await using lab = await imageLab();
    await using failing = await startProxy(lab.registry, ({ url }, answer) => {
      answer.writeHead(url?.includes('busy') ? 429 : 503).end();
      return true;
    });
    const closed = `127.0.0.1:${await freePort()}`;
    await using images = await lab.open([{ prefix: failing.host, insecure: true }]);
    for (const name of [`${closed}/tiny`, `${failing.host}/tiny`, 'registry.invalid/tiny']) {
      await assert.rejects(images.pull(name, undefined, LIVE), { code: 'unavailable' }, name);
    }
  });

  it('what is no image name is invalid_argument', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    await assert.rejects(images.pull('Not An Image', undefined, LIVE), { code: 'invalid_argument' });
  });
});
