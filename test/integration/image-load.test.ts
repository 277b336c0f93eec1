import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { busyboxImage } from '../../images/busybox.ts';
import { run } from '../../src/lib/exec.ts';
import { makeTar, writeLayout, writeMultiPlatformLayout } from '../../images/layout.ts';
import { areLayersThere, filesOf, imageLab, LIVE, tinyImage } from './image-setup.ts';

describe('loading', () => {
  it('a directory gives its images with their names', async () => {
    await using lab = await imageLab();
    const layout = join(lab.directory, 'with:colon');
    const written = await writeLayout(layout, [
      await busyboxImage('busybox'),
      tinyImage('a', { name: 'caisson.test/a:2' }),
    ]);
    await using images = await lab.open();
    const loaded = await images.load(layout, LIVE);
    assert.deepEqual(
      loaded.map(({ id }) => id),
      written.map(({ configDigest }) => configDigest),
    );
    assert.deepEqual(
      loaded.map(({ repoTags }) => repoTags),
      [['docker.io/library/busybox:latest'], ['caisson.test/a:2']],
    );
    for (const image of loaded) assert.ok(await areLayersThere(image));
  });

  for (const [name, flags] of [
    ['tar', '-cf'],
    ['tar.gz', '-czf'],
  ] as const) {
    it(`a ${name} gives the same`, async () => {
      await using lab = await imageLab();
      const layout = join(lab.directory, 'layout');
      const [written] = await writeLayout(layout, [tinyImage('a', { name: 'caisson.test/a' })]);
      const archive = join(lab.directory, `image.${name}`);
      await run('tar', ['-C', layout, flags, archive, '.']);
      await using images = await lab.open();
      const [image] = await images.load(archive, LIVE);
      assert.equal(image?.id, written?.configDigest);
      assert.equal(images.find('caisson.test/a:latest')?.id, image?.id);
      assert.deepEqual((await filesOf(lab)).temporary, []);
    });
  }

  it('an image for several platforms, and one with two names', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    const multi = join(lab.directory, 'multi');
    await writeMultiPlatformLayout(multi, [tinyImage('arm', { architecture: 'arm64' }), tinyImage('amd')]);
    assert.deepEqual(
      (await images.load(multi, LIVE)).map(({ repoTags }) => repoTags),
      [[]],
    );
    const twice = join(lab.directory, 'twice');
    const annotations = { 'org.opencontainers.image.ref.name': 'caisson.test/b:1' };
    await writeLayout(twice, [tinyImage('a', { name: 'caisson.test/a:1' }), tinyImage('a', { annotations })]);
    const [image, ...others] = await images.load(twice, LIVE);
    assert.deepEqual(others, []);
    assert.deepEqual(image?.repoTags, ['caisson.test/a:1', 'caisson.test/b:1']);
  });

  it('a bare tag in an annotation names no image', async () => {
    await using lab = await imageLab();
    const layout = join(lab.directory, 'layout');
    await writeLayout(layout, [tinyImage('a', { annotations: { 'org.opencontainers.image.ref.name': 'latest' } })]);
    await using images = await lab.open();
    const [image] = await images.load(layout, LIVE);
    assert.deepEqual(image?.repoTags, []);
    assert.equal(images.find(image?.id ?? '')?.id, image?.id);
  });

  it('an archive takes nothing out of its place', async () => {
    await using lab = await imageLab();
    const archive = join(lab.directory, 'evil.tar');
    const evil = [
      { name: '../../evil' },
      { name: 'blobs', type: 'symlink', linkname: '/' } as const,
      { name: 'index.json', content: '{}' },
    ];
    await writeFile(archive, await makeTar(evil));
    await using images = await lab.open();
    assert.deepEqual(await images.load(archive, LIVE), []);
    assert.deepEqual(await filesOf(lab), { blobs: [], layers: [], temporary: [] });
  });

  it('what is no layout is refused', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    const [empty, text] = [join(lab.directory, 'empty'), join(lab.directory, 'text')];
    await mkdir(empty);
    await writeFile(text, 'hello'.repeat(1000));
    for (const path of [empty, text]) await assert.rejects(images.load(path, LIVE), { code: 'invalid_argument' });
    await assert.rejects(images.load('/nowhere/image.tar', LIVE), { code: 'not_found' });
  });
});
