import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isCaissonError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { newId } from '../../src/lib/ids.ts';
import type { Logger } from '../../src/lib/logger.ts';
import type { StoragePort } from '../../src/storage/contracts.ts';
import { openStorage } from '../../src/storage/index.ts';

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const skip = process.getuid?.() === 0 ? false : 'needs root';
const signal = new AbortController().signal;
const UID = 6_000_002;
let root: string;
let directory: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'caisson-storage-'));
  directory = join(root, 'scratch');
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

const open = async (sizeMib = 128): Promise<StoragePort> =>
  openStorage({ root, config: { scratch_size_mib: sizeMib }, log: silent });
const files = async (suffix: string): Promise<string[]> =>
  (await readdir(directory)).filter((name) => name.endsWith(suffix)).toSorted();

describe('scratch disks', { skip }, () => {
  it('are empty ext4 file systems of the configured size, for one user alone', async () => {
    const storage = await open();
    const path = await storage.createScratch(newId(), UID, signal);
    const { mode, uid, gid } = await stat(path);
    assert.deepEqual([mode & 0o777, uid, gid], [0o600, UID, UID]);
    assert.equal((await stat(directory)).mode & 0o777, 0o711);
    const raw = join(root, 'flat.raw');
    await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
    assert.equal((await stat(raw)).size, 128 * 1024 * 1024);
    await run('e2fsck', ['-fn', raw]);
    const { stdout } = await run('dumpe2fs', ['-h', raw]);
    assert.doesNotMatch(stdout, /has_journal/);
    assert.match(stdout, /Reserved block count: +0\n/);
  });

  it('can be opened by their user, with the base below them', async () => {
    const storage = await open();
    await run('chmod', ['711', root]);
    const path = await storage.createScratch(newId(), UID, signal);
    const asUser = ['--reuid', String(UID), '--regid', String(UID), '--clear-groups'];
    await run('setpriv', [...asUser, 'qemu-img', 'map', '-f', 'qcow2', path]);
    await assert.rejects(run('setpriv', [...asUser, 'ls', directory]), /Permission denied/);
    const base = join(directory, (await files('.ext4'))[0] ?? '');
    await assert.rejects(run('setpriv', [...asUser, 'sh', '-c', `echo x >> ${base}`]), /Permission denied/);
  });

  it('are counted, and removed once or twice', async () => {
    const storage = await open();
    const ids = [newId(), newId()];
    for (const id of ids) await storage.createScratch(id, UID, signal);
    const { mountpoint, usedBytes, inodesUsed } = await storage.usage();
    assert.deepEqual([mountpoint, inodesUsed], [directory, 2]);
    assert.ok(usedBytes > 2 * 100_000 && usedBytes < 2 * 1_000_000, String(usedBytes));
    for (const id of [...ids, ...ids]) await storage.removeScratch(id);
    assert.deepEqual(await storage.usage(), { mountpoint, usedBytes: 0, inodesUsed: 0 });
  });

  it('are not made twice, for a strange id, or after cancellation', async () => {
    const storage = await open();
    const id = newId();
    await storage.createScratch(id, UID, signal);
    await assert.rejects(storage.createScratch(id, UID, signal), (error) => isCaissonError(error, 'already_exists'));
    const strange = storage.createScratch('../x', UID, signal);
    await assert.rejects(strange, (error) => isCaissonError(error, 'invalid_argument'));
    const late = storage.createScratch(newId(), UID, AbortSignal.abort());
    await assert.rejects(late, (error) => isCaissonError(error, 'cancelled'));
    assert.deepEqual(await files('.qcow2'), [`${id}.qcow2`]);
  });
});

describe('the base of the scratch disks', { skip }, () => {
  it('is made once, and stays while an overlay of a former size needs it', async () => {
    const first = await open();
    const id = newId();
    await first.createScratch(id, UID, signal);
    const [old = ''] = await files('.ext4');
    const past = new Date(2020, 1);
    await utimes(join(directory, old), past, past);
    await open();
    assert.equal((await stat(join(directory, old))).mtime.getFullYear(), 2020);
    await writeFile(join(directory, 'base-0.ext4.new'), 'left by a crash');
    const second = await open(192);
    assert.equal((await files('.ext4')).length, 2);
    assert.deepEqual(await files('.new'), []);
    await second.removeScratch(id);
    await open(192);
    const names = await files('.ext4');
    assert.ok(names.length === 1 && names[0] !== old, names.join());
  });

  it('is made again when somebody removed it, as is the overlay that new disks are copies of', async () => {
    const storage = await open();
    const [base = ''] = await files('.ext4');
    await rm(join(directory, base));
    await rm(join(directory, `${base}.blank`));
    await Promise.all([newId(), newId(), newId()].map(async (id) => storage.createScratch(id, UID, signal)));
    assert.deepEqual(await files('.ext4'), [base]);
  });

  it('on a full disk is an error that names the directory', async () => {
    await mkdir(directory);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'none', directory]);
    try {
      const full = (error: unknown): boolean =>
        isCaissonError(error, 'resource_exhausted') && error.message.includes(directory);
      await assert.rejects(open(), full);
      assert.deepEqual(await readdir(directory), []);
      await run('mount', ['-o', 'remount,size=10m', directory]);
      const storage = await open();
      await run('sh', ['-c', `head -c 20m /dev/zero > ${directory}/ballast`], { okCodes: [0, 1] });
      await assert.rejects(storage.createScratch(newId(), UID, signal), full);
      assert.deepEqual(await files('.qcow2'), []);
    } finally {
      await run('umount', [directory]);
    }
  });

  it('without qemu-img says how to get it', async () => {
    const path = process.env['PATH'];
    try {
      await open();
      process.env['PATH'] = root;
      await assert.rejects(open(), (error) => {
        return isCaissonError(error, 'failed_precondition') && error.hint === 'apt install qemu-utils';
      });
    } finally {
      process.env['PATH'] = path;
    }
  });

  it('costs little on the disk', async () => {
    await open(10_240);
    const [base = ''] = await files('.ext4');
    const { size, blocks } = await stat(join(directory, base));
    assert.equal(size, 10_240 * 1024 * 1024);
    assert.ok(blocks * 512 < 16 * 1024 * 1024, `${blocks * 512} bytes`);
  });
});
