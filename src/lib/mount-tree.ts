import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { CaissonError } from './errors.ts';

/** Opens for its place only, not for its content: no device, FIFO or socket notices. */
export const O_PATH = 0o10000000;

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** include/uapi/linux/mount.h */
const ATTRIBUTES = { readOnly: 1, nosuid: 2, nodev: 4, noexec: 8, nosymfollow: 0x200000 } as const;
/** Owners are shown as a user namespace maps them. */
const MOUNT_ATTR_IDMAP = 0x10_0000;
const PROPAGATIONS = { private: 1 << 18, slave: 1 << 19 } as const;

export type MountAttribute = keyof typeof ATTRIBUTES;
export type Propagation = keyof typeof PROPAGATIONS;

/** A copy of mounts that is not mounted anywhere; it goes when it is disposed before it has been. */
export interface MountTree extends Disposable {
  readonly fd: number;
}

const libc = koffi.load('libc.so.6');
const c = {
  openTree: libc.func('int open_tree(int directory, const char *path, unsigned int flags)'),
  moveMount: libc.func(
    'int move_mount(int fromDirectory, const char *fromPath, int toDirectory, const char *toPath, unsigned int flags)',
  ),
  mountSetattr: libc.func(
    'int mount_setattr(int directory, const char *path, unsigned int flags, const uint8_t *attributes, size_t size)',
  ),
  umount2: libc.func('int umount2(const char *target, int flags)'),
};

function check(what: string, result: unknown): number {
  const value = Number(result);
  if (value >= 0) return value;
  throw new CaissonError('internal', `${what} failed: errno ${koffi.errno()}`);
}

/** Of what `fd` has open, with everything mounted below it: what is mounted is what was opened, wherever its path leads by now. */
export function cloneTree(fd: number): MountTree {
  const flags = AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  return treeOf(check('open_tree', c.openTree(fd, '', flags)));
}

/** Of one directory without what is mounted below it, in the calling thread's mount namespace. */
export function clonePath(path: string): MountTree {
  const flags = AT_SYMLINK_NOFOLLOW | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  return treeOf(check(`open_tree of ${path}`, c.openTree(AT_FDCWD, path, flags)));
}

const treeOf = (fd: number): MountTree => ({ fd, [Symbol.dispose]: () => closeSync(fd) });

export interface TreeChange {
  readonly set?: readonly MountAttribute[];
  readonly propagation?: Propagation;
  /** descriptor of a user namespace: its mappings are those of the files' owners */
  readonly owners?: number;
  /** also of everything mounted below */
  readonly recursive: boolean;
}

export function changeTree({ fd }: Pick<MountTree, 'fd'>, change: TreeChange): void {
  const flags = AT_EMPTY_PATH | (change.recursive ? AT_RECURSIVE : 0);
  check('mount_setattr', c.mountSetattr(fd, '', flags, attributes(change), 32));
}

/** As changeTree, for what is mounted at `path` in the calling thread's mount namespace. */
export function changeMount(path: string, change: TreeChange): void {
  const flags = AT_SYMLINK_NOFOLLOW | (change.recursive ? AT_RECURSIVE : 0);
  check(`mount_setattr of ${path}`, c.mountSetattr(AT_FDCWD, path, flags, attributes(change), 32));
}

/** struct mount_attr: attr_set, attr_clr, propagation, userns_fd */
function attributes({ set = [], propagation, owners }: TreeChange): Buffer {
  const buffer = Buffer.alloc(32);
  const mapped = owners === undefined ? 0 : MOUNT_ATTR_IDMAP;
  buffer.writeBigUInt64LE(BigInt(set.reduce((bits, name) => bits | ATTRIBUTES[name], mapped)), 0);
  if (owners !== undefined) buffer.writeBigUInt64LE(BigInt(owners), 24);
  if (propagation !== undefined) buffer.writeBigUInt64LE(BigInt(PROPAGATIONS[propagation]), 16);
  return buffer;
}

/** Mounts it in the calling thread's mount namespace; `target` is not followed if it is a symbolic link. */
export function attachTree(fd: number, target: string): void {
  check(`move_mount to ${target}`, c.moveMount(fd, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
}

/** Detaches it and all below, whoever still uses it, in the calling thread's mount namespace. */
export function detachTree(target: string): void {
  check(`unmounting ${target}`, c.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW));
}
