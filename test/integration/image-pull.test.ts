import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { busyboxImage } from '../../images/busybox.ts';
import { writeLayout, writeMultiPlatformLayout } from '../../images/layout.ts';
import { areLayersThere, filesOf, imageLab, LIVE, startProxy, tinyImage } from './image-setup.ts';

describe('pulling an image', () => {
  it('by tag gives its id, names, config and layers', async () => {
    await using lab = await imageLab();
    const pushed = await lab.push('busybox:1', await busyboxImage());
    await using images = await lab.open();
    const name = `${lab.registry.host}/busybox`;
    const image = await images.pull(`${name}:1`, undefined, LIVE);
    assert.equal(image.id, pushed.configDigest);
    assert.deepEqual(image.repoTags, [`${name}:1`]);
    assert.deepEqual(image.repoDigests, [`${name}@${pushed.manifestDigest}`]);
    assert.deepEqual(image.config.cmd, ['sh']);
    assert.deepEqual(
      image.layers.map(({ diffId }) => diffId),
      pushed.layers.map(({ diffId }) => diffId),
    );
    assert.ok(await areLayersThere(image));
    assert.deepEqual(images.list(), [image]);
    assert.deepEqual((await filesOf(lab)).temporary, []);
  });

  it('by digest and untagged', async () => {
    await using lab = await imageLab();
    const pushed = await lab.push('app/web:latest', tinyImage('a'));
    await using images = await lab.open();
    const name = `${lab.registry.host}/app/web`;
    const byDigest = await images.pull(`${name}:ignored@${pushed.manifestDigest}`, undefined, LIVE);
    assert.deepEqual(byDigest.repoTags, []);
    assert.deepEqual(byDigest.repoDigests, [`${name}@${pushed.manifestDigest}`]);
    const untagged = await images.pull(name, undefined, LIVE);
    assert.equal(untagged.id, byDigest.id);
    assert.deepEqual(untagged.repoTags, [`${name}:latest`]);
    assert.equal(images.list().length, 1);
  });

  it('for several platforms takes ours, under the digest of the whole', async () => {
    await using lab = await imageLab();
    const layout = join(lab.directory, 'multi');
    const { indexDigest, images: made } = await writeMultiPlatformLayout(layout, [
      tinyImage('arm', { architecture: 'arm64' }),
      tinyImage('amd'),
    ]);
    await lab.registry.push(layout, 'multi:1');
    await using images = await lab.open();
    const image = await images.pull(`${lab.registry.host}/multi:1`, undefined, LIVE);
    assert.equal(image.id, made[1]?.configDigest);
    assert.deepEqual(image.repoDigests, [`${lab.registry.host}/multi@${indexDigest}`]);
    const again = await images.pull(`${lab.registry.host}/multi@${indexDigest}`, undefined, LIVE);
    assert.equal(again.id, image.id);
  });

  it('refuses an image for another platform', async () => {
    await using lab = await imageLab();
    await lab.push('arm:1', tinyImage('arm', { architecture: 'arm64' }));
    await using images = await lab.open();
    const expected = { code: 'failed_precondition', message: /arm:1 is made for linux\/arm64/ };
    await assert.rejects(images.pull(`${lab.registry.host}/arm:1`, undefined, LIVE), expected);
  });

  it('in the older format of Docker works like any other', async () => {
    await using lab = await imageLab();
    const layout = join(lab.directory, 'docker');
    const [written] = await writeLayout(layout, [await busyboxImage()]);
    await lab.registry.push(layout, 'old:1', 'docker');
    await using images = await lab.open();
    const name = `${lab.registry.host}/old`;
    const image = await images.pull(`${name}:1`, undefined, LIVE);
    assert.deepEqual(image.config.cmd, ['sh']);
    assert.equal(image.layers[0]?.diffId, written?.layers[0]?.diffId);
    const again = await images.pull(String(image.repoDigests[0]), undefined, LIVE);
    assert.equal(again.id, image.id); // of the config that skopeo converts to OCI's format
  });

  it('that is unchanged asks the registry for nothing but the manifest', async () => {
    await using lab = await imageLab();
    await lab.push('tiny:1', tinyImage('a'));
    await using proxy = await startProxy(lab.registry);
    await using images = await lab.open([{ prefix: proxy.host, insecure: true }]);
    await images.pull(`${proxy.host}/tiny:1`, undefined, LIVE);
    proxy.requests.length = 0;
    await images.pull(`${proxy.host}/tiny:1`, undefined, LIVE);
    assert.deepEqual(proxy.requests, ['GET /v2/', 'GET /v2/tiny/manifests/1']);
  });

  it('does not download a layer that another image has', async () => {
    await using lab = await imageLab();
    const base = tinyImage('base').layers;
    const first = await lab.push('first:1', { layers: base });
    await lab.push('second:1', { layers: [...base, { content: [{ name: 'more', content: 'b' }] }] });
    await using proxy = await startProxy(lab.registry);
    await using images = await lab.open([{ prefix: proxy.host, insecure: true }]);
    await images.pull(`${proxy.host}/first:1`, undefined, LIVE);
    proxy.requests.length = 0;
    await images.pull(`${proxy.host}/second:1`, undefined, LIVE);
    const fetched = proxy.requests.filter((line) => line.includes(String(first.layers[0]?.blobDigest)));
    assert.deepEqual(fetched, []);
    assert.equal((await filesOf(lab)).layers.length, 2);
  });

  it('of a tag that moved takes the tag off the old image', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    const name = `${lab.registry.host}/tiny:1`;
    await lab.push('tiny:1', tinyImage('old'));
    const old = await images.pull(name, undefined, LIVE);
    await lab.push('tiny:1', tinyImage('new'));
    const moved = await images.pull(name, undefined, LIVE);
    assert.notEqual(moved.id, old.id);
    assert.deepEqual(images.find(name)?.id, moved.id);
    assert.deepEqual(images.find(old.id)?.repoTags, []);
    assert.deepEqual(images.find(old.id)?.repoDigests, old.repoDigests);
  });

  it('with three tags is one image', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    for (const tag of ['1', '2', '3']) {
      await lab.push(`tiny:${tag}`, tinyImage('same'));
      await images.pull(`${lab.registry.host}/tiny:${tag}`, undefined, LIVE);
    }
    const [image, ...others] = images.list();
    assert.deepEqual(others, []);
    assert.equal(image?.repoTags.length, 3);
    assert.equal(image?.repoDigests.length, 1);
  });
});
