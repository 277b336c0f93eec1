/** Becomes what a process of the container would be, as far as files are concerned. */
import koffi from 'koffi';
import { constants } from 'node:os';

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** numbers as in capabilities(7), for uid 0 */
  readonly capabilities: readonly number[];
}

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;
const CAPABILITY_VERSION_3 = 0x20080522;
const UMASK = 0o022;

/**
 * Moves this thread into the mount namespace that the descriptor names, whose root becomes its root, and takes on the
 * identity. Other threads stay where they are, so files are to be used synchronously from now on.
 */
export function enterContainer(namespace: number, { uid, gid, groups, capabilities }: Identity): void {
  const libc = koffi.load('libc.so.6');
  const unshare = libc.func('int unshare(int flags)');
  const setns = libc.func('int setns(int fd, int type)');
  const capset = libc.func('int capset(uint8_t *header, uint8_t *data)');
  check('unshare', unshare(CLONE_FS));
  check('setns', setns(namespace, CLONE_NEWNS));
  process.umask(UMASK);
  process.setgroups?.([...groups]);
  process.setgid?.(gid);
  process.setuid?.(uid);
  const header = Buffer.alloc(8);
  header.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  // effective, permitted, inheritable: of capabilities 0 to 31, then of the rest
  const data = Buffer.alloc(24);
  for (const capability of uid === 0 ? capabilities : []) {
    const half = capability < 32 ? 0 : 12;
    for (const at of [half, half + 4]) data.writeUInt32LE((data.readUInt32LE(at) | (1 << (capability % 32))) >>> 0, at);
  }
  check('capset', capset(header, data));
}

function check(syscall: string, result: unknown): void {
  if (result === 0) return;
  const name = Object.entries(constants.errno).find(([, number]) => number === koffi.errno())?.[0];
  throw new Error(`${syscall}: ${name ?? koffi.errno()}`);
}
