/**
 * File operations of an SFTP server. All are synchronous on purpose: only this thread is in the container's mount
 * namespace (enter.ts). Paths are bytes, relative ones to the working directory; the kernel resolves them, within the
 * container's root.
 */
import fs from 'node:fs';
import type { Attributes } from './attributes.ts';

export const OpenFlag = { read: 1, write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;

const DEFAULT_FILE_MODE = 0o666;
const DEFAULT_DIRECTORY_MODE = 0o777;

/** A regular file's descriptor: a pipe or a terminal would make everything wait. */
export function openFile(path: Buffer, flags: number, { mode = DEFAULT_FILE_MODE }: Attributes): number {
  const fd = fs.openSync(path, openMode(flags), mode);
  if (fs.fstatSync(fd).isFile()) return fd;
  fs.closeSync(fd);
  throw Object.assign(new Error('it is no regular file'), { code: 'EINVAL' });
}

function openMode(flags: number): number {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC, O_EXCL, O_NONBLOCK, O_NOCTTY } = fs.constants;
  const has = (flag: number, mode: number): number => (flags & flag ? mode : 0);
  const both = OpenFlag.read | OpenFlag.write;
  const access = (flags & both) === both ? O_RDWR : flags & OpenFlag.write ? O_WRONLY : O_RDONLY;
  const how = [
    has(OpenFlag.append, O_APPEND),
    has(OpenFlag.create, O_CREAT),
    has(OpenFlag.truncate, O_TRUNC),
    has(OpenFlag.exclusive, O_EXCL),
  ];
  return how.reduce((all, mode) => all | mode, access | O_NONBLOCK | O_NOCTTY);
}

export function makeDirectory(path: Buffer, { mode = DEFAULT_DIRECTORY_MODE }: Attributes): void {
  fs.mkdirSync(path, { mode });
}

/** `followLinks`: of a link, change what it leads to. */
export function change(path: Buffer, wanted: Attributes, followLinks: boolean): void {
  const { size, mode, times, owner } = wanted;
  if (size !== undefined) {
    const fd = openFile(path, OpenFlag.write, {});
    try {
      fs.ftruncateSync(fd, size);
    } finally {
      fs.closeSync(fd);
    }
  }
  if (mode !== undefined) fs.chmodSync(path, mode);
  if (times) (followLinks ? fs.utimesSync : fs.lutimesSync)(path, times.accessed, times.modified);
  if (owner) (followLinks ? fs.chownSync : fs.lchownSync)(path, owner.uid, owner.gid);
}

export function changeOpen(fd: number, { size, mode, times, owner }: Attributes): void {
  if (size !== undefined) fs.ftruncateSync(fd, size);
  if (mode !== undefined) fs.fchmodSync(fd, mode);
  if (times) fs.futimesSync(fd, times.accessed, times.modified);
  if (owner) fs.fchownSync(fd, owner.uid, owner.gid);
}

/** Version 3 renames onto nothing that is there. */
export function renameOnto(from: Buffer, to: Buffer): void {
  if (fs.lstatSync(to, { throwIfNoEntry: false }))
    throw Object.assign(new Error('it exists already'), { code: 'EEXIST' });
  fs.renameSync(from, to);
}

/** Absolute, without links; the last part need not be there. */
export function realPath(path: Buffer): Buffer {
  const start = path.length === 0 ? Buffer.from('.') : path;
  const real = (some: Buffer): Buffer => fs.realpathSync.native(some, { encoding: 'buffer' });
  try {
    return real(start);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    const slash = start.lastIndexOf(0x2f);
    const name = start.subarray(slash + 1);
    const parent = slash < 0 ? Buffer.from('.') : slash === 0 ? Buffer.from('/') : start.subarray(0, slash);
    const resolved = real(parent);
    return resolved.equals(Buffer.from('/'))
      ? Buffer.concat([resolved, name])
      : Buffer.concat([resolved, Buffer.from('/'), name]);
  }
}
