import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/lib/exec.ts';
import { areLayersThere, filesOf, imageLab, LIVE, startProxy, tinyImage, type ImageLab } from './image-setup.ts';

const NOTHING = { blobs: [], layers: [], temporary: [] };

/** A layer that takes a while to convert. */
function bigImage() {
  return {
    layers: [{ compression: 'none' as const, content: [{ name: 'big', content: randomBytes(64 * 1024 * 1024) }] }],
  };
}

/** Resolves when the conversion of a layer has begun. */
async function conversionBegun(lab: ImageLab): Promise<void> {
  for (let tries = 0; tries < 2000; tries++) {
    const names = await readdir(join(lab.root, 'tmp'));
    if (names.some((name) => name.startsWith('layer-'))) return;
    await sleep(5);
  }
  throw new Error('no conversion began');
}

describe('pulls at the same time', () => {
  it('of one image are one pull', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using proxy = await startProxy(lab.registry);
    await using images = await lab.open([{ prefix: proxy.host, insecure: true }]);
    const name = `${proxy.host}/tiny:1`;
    const pulled = await Promise.all([1, 2, 3].map(() => images.pull(name, undefined, LIVE)));
    assert.equal(new Set(pulled.map(({ id }) => id)).size, 1);
    assert.equal(proxy.requests.filter((line) => line === 'GET /v2/tiny/manifests/1').length, 1);
  });

  it('go on until the last caller has gone', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    const open = Promise.withResolvers<boolean>();
    await using proxy = await startProxy(lab.registry, () => open.promise);
    await using images = await lab.open([{ prefix: proxy.host, insecure: true }]);
    const leaving = new AbortController();
    const left = images.pull(`${proxy.host}/tiny:1`, undefined, leaving.signal);
    const staying = images.pull(`${proxy.host}/tiny:1`, undefined, LIVE);
    leaving.abort();
    await assert.rejects(left, { code: 'cancelled' });
    open.resolve(false);
    assert.ok(await areLayersThere(await staying));
  });

  it('of images that share a layer convert it once, whoever stays', async () => {
    await using lab = await imageLab();
    const { layers } = bigImage();
    await lab.push('one:1', { layers });
    await lab.push('two:1', { layers, config: { Cmd: ['two'] } });
    await using images = await lab.open();
    const leaving = new AbortController();
    const one = images.pull(`${lab.registry.host}/one:1`, undefined, leaving.signal);
    const two = images.pull(`${lab.registry.host}/two:1`, undefined, LIVE);
    await conversionBegun(lab);
    leaving.abort();
    await assert.rejects(one, { code: 'cancelled' });
    assert.ok(await areLayersThere(await two));
    assert.deepEqual((await filesOf(lab)).temporary, []);
  });
});

describe('a cancelled pull leaves nothing', () => {
  it('when the registry hangs', async () => {
    await using lab = await imageLab();
    const asked = Promise.withResolvers<void>();
    await using proxy = await startProxy(lab.registry, () => {
      asked.resolve();
      return new Promise(() => undefined);
    });
    await using images = await lab.open([{ prefix: proxy.host, insecure: true }]);
    const abort = new AbortController();
    const pull = images.pull(`${proxy.host}/tiny:1`, undefined, abort.signal);
    await asked.promise;
    abort.abort();
    await assert.rejects(pull, { code: 'cancelled' });
    assert.deepEqual(await filesOf(lab), NOTHING);
  });

  it('when a layer is being converted; the next pull works', async () => {
    await using lab = await imageLab();
    await lab.push('big:1', bigImage());
    await using images = await lab.open();
    const abort = new AbortController();
    const pull = images.pull(`${lab.registry.host}/big:1`, undefined, abort.signal);
    await conversionBegun(lab);
    abort.abort();
    await assert.rejects(pull, { code: 'cancelled' });
    assert.deepEqual(await filesOf(lab), NOTHING);
    assert.ok(await areLayersThere(await images.pull(`${lab.registry.host}/big:1`, undefined, LIVE)));
  });

  it('when the image store closes', async () => {
    await using lab = await imageLab();
    await using proxy = await startProxy(lab.registry, () => new Promise(() => undefined));
    const images = await lab.open([{ prefix: proxy.host, insecure: true }]);
    const refused = assert.rejects(images.pull(`${proxy.host}/tiny:1`, undefined, LIVE), { code: 'cancelled' });
    await images[Symbol.asyncDispose]();
    await refused;
    assert.deepEqual(await filesOf(lab), NOTHING);
  });
});

describe('removing', () => {
  it('by any name takes all names and what no other image needs', async () => {
    await using lab = await imageLab();
    const base = tinyImage('base').layers;
    const kept = await lab.push('kept:1', { layers: base });
    await lab.push('gone:1', { layers: [...base, { content: [{ name: 'more' }] }] });
    await using images = await lab.open();
    const name = `${lab.registry.host}/gone`;
    await images.pull(`${lab.registry.host}/kept:1`, undefined, LIVE);
    const alone = await filesOf(lab);
    const gone = await images.pull(`${name}:1`, undefined, LIVE);
    await images.remove(String(gone.repoDigests[0]));
    await images.remove(`${name}:1`);
    assert.equal(images.find(gone.id), undefined);
    assert.equal(images.find(`${name}:1`), undefined);
    assert.deepEqual(
      images.list().map(({ id }) => id),
      [kept.configDigest],
    );
    assert.deepEqual(await filesOf(lab), alone);
  });

  it('of the same image and of others, at once', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    const pulled = [];
    for (const tag of ['1', '2']) {
      await lab.push(`tiny:${tag}`, tinyImage(tag));
      pulled.push(await images.pull(`${lab.registry.host}/tiny:${tag}`, undefined, LIVE));
    }
    await Promise.all([...pulled, ...pulled].map(({ id }) => images.remove(id)));
    assert.deepEqual(await filesOf(lab), NOTHING);
  });

  it('keeps the layers that are held', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open();
    const image = await images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE);
    const holds = [images.hold(image.id), images.hold(image.id)];
    await images.remove(image.id);
    assert.ok(await areLayersThere(image));
    assert.throws(() => images.hold(image.id), { code: 'not_found' });
    for (const hold of holds) hold[Symbol.dispose]();
    await images[Symbol.asyncDispose]();
    assert.deepEqual(await filesOf(lab), NOTHING);
  });

  it('while it is pulled again leaves an image or none, never half of one', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open();
    const name = `${lab.registry.host}/tiny:1`;
    for (let round = 0; round < 5; round++) {
      const pull = images.pull(name, undefined, LIVE);
      await sleep(round * 15);
      await images.remove(name);
      await pull;
      const found = images.find(name);
      if (found) assert.ok(await areLayersThere(found));
      else assert.deepEqual(await filesOf(lab), NOTHING);
    }
  });
});

describe('after a restart', () => {
  it('images are as they were, and rests of interrupted work are gone', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    const before = await lab.open();
    const image = await before.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE);
    const files = await filesOf(lab);
    await before[Symbol.asyncDispose]();
    await writeFile(join(lab.root, 'tmp', 'rest'), '');
    await writeFile(join(lab.root, 'blobs/sha256', 'f'.repeat(64)), '');
    await writeFile(join(lab.root, 'layers', `${'f'.repeat(64)}.erofs`), '');
    await using after = await lab.open();
    assert.deepEqual(after.list(), [image]);
    assert.deepEqual(await filesOf(lab), files);
    assert.deepEqual(lab.warnings, []);
  });

  it('images with missing or cut layers are forgotten, with a warning', async () => {
    await using lab = await imageLab();
    const before = await lab.open();
    const pulled = [];
    for (const tag of ['1', '2']) {
      await lab.push(`tiny:${tag}`, tinyImage(tag));
      pulled.push(await before.pull(`${lab.registry.host}/tiny:${tag}`, undefined, LIVE));
    }
    await before[Symbol.asyncDispose]();
    await rm(String(pulled[0]?.layers[0]?.path));
    await truncate(String(pulled[1]?.layers[0]?.path), 100);
    await using after = await lab.open();
    assert.deepEqual(after.list(), []);
    assert.equal(lab.warnings.length, 2);
    assert.deepEqual(await filesOf(lab), NOTHING);
  });
});

describe('usage', () => {
  it('is what du says', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using images = await lab.open();
    const image = await images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE);
    const usage = await images.usage();
    const count = async (...flags: string[]) =>
      Number.parseInt((await run('du', ['-s', ...flags, lab.root])).stdout, 10);
    assert.deepEqual(usage, {
      mountpoint: lab.root,
      usedBytes: await count('--block-size=1'),
      inodesUsed: await count('--inodes'),
    });
    assert.ok(image.sizeBytes > 0 && image.sizeBytes < usage.usedBytes);
  });
});
