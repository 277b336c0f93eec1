import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import type { Image } from '../../src/image/contracts.ts';
import { run } from '../../src/lib/exec.ts';
import { makeTar, sha256, writeLayout, type Compression, type TarEntry } from '../../images/layout.ts';
import { filesOf, imageLab, LIVE, tinyImage, type ImageLab } from './image-setup.ts';

const ROOT: TarEntry = { name: './', type: 'directory' };

/** Shows an image's files as a container would see them: its layers mounted and stacked. */
async function mounted(lab: ImageLab, image: Image): Promise<AsyncDisposable & { path: string }> {
  await using stack = new AsyncDisposableStack();
  const mount = async (name: string, args: string[]): Promise<string> => {
    const path = join(lab.directory, 'mounts', name);
    await mkdir(path, { recursive: true });
    await run('mount', [...args, path]);
    stack.defer(async () => void (await run('umount', [path])));
    return path;
  };
  const layers = [];
  for (const [index, layer] of image.layers.entries()) {
    layers.push(await mount(`layer${index}`, ['-t', 'erofs', '-o', 'ro,loop', layer.path]));
  }
  layers.unshift(await mount('empty', ['-t', 'tmpfs', 'tmpfs']));
  const options = `ro,lowerdir=${layers.toReversed().join(':')}`;
  const path = await mount('all', ['-t', 'overlay', '-o', options, 'overlay']);
  const owned = stack.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function canMount(context: TestContext): Promise<boolean> {
  const known = await readFile('/proc/filesystems', 'utf8');
  const isAble = process.getuid?.() === 0 && ['erofs', 'overlay'].every((name) => known.includes(`\t${name}\n`));
  if (!isAble) context.skip('needs root and a kernel with erofs and overlay');
  return isAble;
}

describe('layers', () => {
  for (const compression of ['none', 'gzip', 'zstd'] satisfies Compression[]) {
    it(`compressed by ${compression} keep files, owners, modes and times`, async (context) => {
      if (!(await canMount(context))) return;
      await using lab = await imageLab();
      const content = randomBytes(300_000);
      const mtime = new Date(1_234_567_890_000);
      const file = { name: 'data', content, mode: 0o4750, uid: 70_000, gid: 7, mtime };
      await lab.push('tiny:1', { layers: [{ compression, content: [ROOT, file] }] });
      await using images = await lab.open();
      const image = await images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE);
      await using mount = await mounted(lab, image);
      const found = await stat(join(mount.path, 'data'));
      assert.deepEqual(await readFile(join(mount.path, 'data')), content);
      assert.deepEqual([found.mode & 0o7777, found.uid, found.gid], [0o4750, 70_000, 7]);
      assert.equal(found.mtimeMs, mtime.getTime());
    });
  }

  it('whiteouts delete, opaque directories hide, directories without entry are 0755', async (context) => {
    if (!(await canMount(context))) return;
    await using lab = await imageLab();
    const directory = (name: string): TarEntry => ({ name, type: 'directory' });
    const lower = [ROOT, directory('a'), directory('b'), ...['a/gone', 'a/kept', 'b/old'].map((name) => ({ name }))];
    const upper = [ROOT, directory('a'), { name: 'a/.wh.gone' }, directory('b'), { name: 'b/.wh..wh..opq' }];
    const implied = [{ name: 'b/new' }, { name: 'c/d/file' }];
    await lab.push('tiny:1', { layers: [{ content: lower }, { content: [...upper, ...implied] }] });
    await using images = await lab.open();
    await using mount = await mounted(lab, await images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE));
    assert.deepEqual(await readdir(join(mount.path, 'a')), ['kept']);
    assert.deepEqual(await readdir(join(mount.path, 'b')), ['new']);
    for (const name of ['c', 'c/d']) assert.equal((await stat(join(mount.path, name))).mode & 0o7777, 0o755);
  });

  it('that are stacked twice count once, at the top', async (context) => {
    if (!(await canMount(context))) return;
    await using lab = await imageLab();
    const one = { content: [ROOT, { name: 'file', content: 'one' }] };
    const two = { content: [ROOT, { name: 'file', content: 'two' }] };
    await lab.push('tiny:1', { layers: [one, two, one] });
    await using images = await lab.open();
    const image = await images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE);
    assert.equal(image.layers.length, 2);
    await using mount = await mounted(lab, image);
    assert.equal(await readFile(join(mount.path, 'file'), 'utf8'), 'one');
  });

  it('are the same file on every node, readable by every user, owned by root', async () => {
    await using lab = await imageLab();
    await using other = await imageLab();
    const contents = [];
    for (const { push, open, registry } of [lab, other]) {
      await push('tiny:1', tinyImage('a'));
      await using images = await open();
      const { layers } = await images.pull(`${registry.host}/tiny:1`, undefined, LIVE);
      const path = layers[0]?.path ?? '';
      const { mode, uid, gid } = await stat(path);
      assert.deepEqual([mode & 0o7777, uid, gid], [0o644, 0, 0]);
      contents.push(sha256(await readFile(path)));
    }
    assert.equal(contents[0], contents[1]);
  });

  it('may be many zstd frames, end with long zeros, or be empty', async () => {
    await using lab = await imageLab();
    await using images = await lab.open();
    const tar = await makeTar([ROOT, { name: 'zeros', content: Buffer.alloc(700_000) }]);
    const frames = [tar.subarray(0, 1000), tar.subarray(1000), Buffer.alloc(1024 * 1024)];
    const pieces = Buffer.concat(frames.map((frame) => zstdCompressSync(frame)));
    // a layer that says uncompressed is stored as it is: the first bytes decide
    await lab.push('frames:1', {
      layers: [{ compression: 'none', content: pieces, diffId: sha256(Buffer.concat(frames)) }],
    });
    await lab.push('empty:1', { layers: [{ content: Buffer.alloc(1024) }] });
    await images.pull(`${lab.registry.host}/frames:1`, undefined, LIVE);
    await images.pull(`${lab.registry.host}/empty:1`, undefined, LIVE);
    assert.equal(images.list().length, 2);
  });
});

describe('hostile images are refused and leave nothing:', () => {
  const hostile: Record<string, { entries: TarEntry[]; reason: RegExp }> = {
    'a path with ..': { entries: [{ name: '../evil' }], reason: /"\.\.\/evil" leads out of the image/ },
    'an inner ..': { entries: [{ name: 'a/../../evil' }], reason: /leads out of the image/ },
    'an absolute path': { entries: [{ name: '/etc/evil' }], reason: /absolute path/ },
    'a hard link out': { entries: [{ name: 'a', type: 'link', linkname: '../../etc/shadow' }], reason: /leads out/ },
    'an absolute hard link': { entries: [{ name: 'a', type: 'link', linkname: '/etc/shadow' }], reason: /absolute/ },
    'a whiteout of ..': { entries: [{ name: 'a/.wh...' }], reason: /deletes no valid name/ },
  };
  for (const [what, { entries, reason }] of Object.entries(hostile)) {
    it(what, async () => {
      await refuses({ layers: [{ content: [ROOT, ...entries] }] }, reason);
    });
  }

  it('no layers', async () => {
    await refuses({ layers: [] }, /image .*evil.* has no layers/);
  });

  it('a diff id that the content does not have', async () => {
    const diffId = `sha256:${'1'.repeat(64)}`;
    await refuses({ layers: [{ content: [ROOT], diffId }] }, /layer sha256:1+ .* corrupt/);
  });

  it('no tar at all', async () => {
    await refuses({ layers: [{ compression: 'none', content: randomBytes(5000) }] }, /not a valid tar archive/);
  });

  it('a tar that ends too early', async () => {
    const tar = await makeTar([ROOT, { name: 'file', content: randomBytes(50_000) }]);
    await refuses({ layers: [{ content: tar.subarray(0, 30_000) }] }, /not a valid tar archive/);
  });

  it('a config full of the wrong types', async () => {
    await refuses({ ...tinyImage('a'), config: { Env: 'PATH=/bin', Cmd: [1] } }, /has an invalid config: .*Env/);
  });

  it('a good layer under a bad one', async () => {
    const good = { content: [ROOT, { name: 'file' }] };
    await refuses({ layers: [good, { content: [{ name: '../evil' }] }] }, /leads out of the image/);
  });

  async function refuses(image: Parameters<ImageLab['push']>[1], reason: RegExp): Promise<void> {
    await using lab = await imageLab();
    const layout = join(lab.directory, 'evil');
    await writeLayout(layout, [image]);
    await using images = await lab.open();
    await assert.rejects(images.load(layout, LIVE), {
      name: 'CaissonError',
      code: 'failed_precondition',
      message: reason,
    });
    assert.deepEqual(await filesOf(lab), { blobs: [], layers: [], temporary: [] });
    assert.deepEqual(images.list(), []);
  }

  it('a blob that the registry serves corrupt', async () => {
    await using lab = await imageLab();
    const pushed = await lab.push('tiny:1', tinyImage('a'));
    const hex = String(pushed.layers[0]?.blobDigest).slice('sha256:'.length);
    const blobs = join(lab.registry.directory, 'data/docker/registry/v2/blobs/sha256');
    const path = join(blobs, hex.slice(0, 2), hex, 'data');
    const data = await readFile(path);
    data[data.length - 9] = (data.at(-9) ?? 0) ^ 1;
    await writeFile(path, data);
    await using images = await lab.open();
    const expected = { code: 'failed_precondition', message: /cannot pull .*tiny.*: .*digest/i };
    await assert.rejects(images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE), expected);
    assert.deepEqual(await filesOf(lab), { blobs: [], layers: [], temporary: [] });
  });
});

describe('a full disk', { skip: process.getuid?.() === 0 ? false : 'needs root' }, () => {
  // of an image of 6 MiB compressed and 8 MiB as EROFS: at the download, in mkfs.erofs, and when it writes the end
  for (const sizeMib of [3, 14, 22])
    it(`of ${sizeMib} MiB is what a pull says, and it leaves nothing`, async () => {
      await using lab = await imageLab();
      await mkdir(lab.root);
      await run('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m`, 'small', lab.root]);
      await using stack = new AsyncDisposableStack();
      stack.defer(async () => void (await run('umount', [lab.root])));
      const content = randomBytes(6 * 1024 * 1024).toString('base64');
      await lab.push('big:1', { layers: [{ content: [{ name: 'file', content }] }] });
      await lab.push('tiny:1', tinyImage('a'));
      await using images = await lab.open();
      const expected = { code: 'resource_exhausted', message: /big:1/, hint: /free space/ };
      await assert.rejects(images.pull(`${lab.registry.host}/big:1`, undefined, LIVE), expected);
      assert.deepEqual(await filesOf(lab), { blobs: [], layers: [], temporary: [] });
      await images.pull(`${lab.registry.host}/tiny:1`, undefined, LIVE);
    });
});
