import { chmod, lchown, lstat, mkdir, open, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { constants } from 'node:fs';
import { KeyedMutex } from '../../src/lib/async.ts';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';
import { removeTree } from '../../src/lib/files.ts';

/**
 * A copy of a directory that the kubelet changes as a whole: files are in a directory of their own (`..2024_01_01`), the
 * link `..data` leads to it, and the names that users see are links through `..data`. The file system that the host
 * shares tells of no changes; a copy that changes in the kubelet's own steps does, to every watcher in the guest.
 */
export interface Mirror {
  /** in the pod's shared file system */
  readonly from: string;
  readonly to: string;
}

const MAX_ENTRIES = 2000;
const MAX_BYTES = 16 * 1024 * 1024;
const DATA = '..data';

const order = new KeyedMutex();

/** Makes the copy. False, and nothing is left, when there is too much to copy. */
export async function makeMirror(mirror: Mirror, data: string): Promise<boolean> {
  await mkdir(mirror.to, { recursive: true });
  try {
    await likeOriginal(mirror.from, mirror.to);
    await syncMirror(mirror, data);
    return true;
  } catch (error) {
    await removeTree(mirror.to);
    if (error instanceof TooMuch) return false;
    throw error;
  }
}

/** Makes the copy show what is in `data` now, in the steps and the order in which the kubelet does it. */
export async function syncMirror({ from, to }: Mirror, data: string): Promise<void> {
  if (!/^\.\.[^/]+$/.test(data) || data === DATA)
    throw new CaissonError('invalid_argument', `${JSON.stringify(data)} is not a directory of a volume's data`);
  await order.run(to, async () => {
    const before = await readlink(`${to}/${DATA}`).catch(missing);
    if (before === data) return;
    const budget = { entries: MAX_ENTRIES, bytes: MAX_BYTES };
    try {
      await copyTree(`${from}/${data}`, `${to}/${data}`, budget);
    } catch (error) {
      await removeTree(`${to}/${data}`);
      // the next change is on its way
      if (before !== undefined && isErrno(error, 'ENOENT')) return;
      throw error;
    }
    const names = new Set(await readdir(`${to}/${data}`));
    await rm(`${to}/..data_tmp`, { force: true });
    await symlink(data, `${to}/..data_tmp`);
    await rename(`${to}/..data_tmp`, `${to}/${DATA}`);
    const shown = new Set((await readdir(to)).filter((name) => !name.startsWith('..')));
    for (const name of names) if (!shown.has(name)) await symlink(`${DATA}/${name}`, `${to}/${name}`);
    for (const name of shown) if (!names.has(name)) await rm(`${to}/${name}`, { force: true });
    if (before !== undefined) await removeTree(`${to}/${before}`);
  });
}

class TooMuch extends Error {}

const missing = (error: unknown): undefined => {
  if (isErrno(error, 'ENOENT')) return undefined;
  throw error;
};

interface Budget {
  entries: number;
  bytes: number;
}

async function copyTree(from: string, to: string, budget: Budget): Promise<void> {
  await mkdir(to);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (--budget.entries < 0) throw new TooMuch('too many files');
    const [source, target] = [`${from}/${entry.name}`, `${to}/${entry.name}`];
    if (entry.isDirectory()) await copyTree(source, target, budget);
    else if (entry.isSymbolicLink()) await symlink(await readlink(source), target);
    else if (entry.isFile()) await copyFile(source, target, budget);
  }
  await likeOriginal(from, to);
}

async function copyFile(from: string, to: string, budget: Budget): Promise<void> {
  await using source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { size } = await source.stat();
  budget.bytes -= size;
  if (budget.bytes < 0) throw new TooMuch('too much data');
  const { buffer, bytesRead } = await source.read(Buffer.alloc(size), 0, size, 0);
  await using target = await open(to, 'wx', 0o600);
  await target.writeFile(buffer.subarray(0, bytesRead));
  await likeOriginal(from, to);
}

async function likeOriginal(from: string, to: string): Promise<void> {
  const { uid, gid, mode } = await lstat(from);
  await lchown(to, uid, gid);
  await chmod(to, mode & 0o7777);
}
