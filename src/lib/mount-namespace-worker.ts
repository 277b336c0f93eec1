/**
 * The only thread of the daemon that ever enters another mount namespace. It has nothing else to do, and opens no file
 * while it is away from home.
 */
import { openSync } from 'node:fs';
import { constants } from 'node:os';
import { parentPort } from 'node:worker_threads';
import koffi from 'koffi';
import type { BlockNode, MountJob, MountJobResult } from './mount-namespace.ts';
import { attachTree, changeMount, clonePath, detachTree } from './mount-tree.ts';

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;

const libc = koffi.load('libc.so.6');
const unshare = libc.func('int unshare(int flags)');
const setns = libc.func('int setns(int fd, int type)');
const mknod = libc.func('int mknod(const char *path, unsigned int mode, uint64_t device)');
const lchown = libc.func('int lchown(const char *path, unsigned int uid, unsigned int gid)');

if (!parentPort) throw new Error('this is the main thread');
const port = parentPort;
// threads share root and working directory; one that does cannot enter a mount namespace
if (Number(unshare(CLONE_FS)) < 0) throw new Error(`unshare: errno ${koffi.errno()}`);
const home = openSync('/proc/thread-self/ns/mnt', 'r');

port.on('message', (job: MountJob) => {
  let error: string | undefined;
  if (Number(setns(job.namespace, CLONE_NEWNS)) < 0) {
    error = `the mount namespace cannot be entered: errno ${koffi.errno()}`;
  } else {
    try {
      for (const step of job.steps) perform(step);
    } catch (failure) {
      error = failure instanceof Error ? failure.message : String(failure);
    }
    // a thread that does not find home must not live on
    if (Number(setns(home, CLONE_NEWNS)) < 0) throw new Error(`setns to the own namespace: errno ${koffi.errno()}`);
  }
  port.postMessage({ id: job.id, error } satisfies MountJobResult);
});

const S_IFBLK = 0o060000;

function makeBlockNode({ path, major, minor, uid }: BlockNode): void {
  // as glibc's gnu_dev_makedev, for numbers below 4096 and 2^20
  const device = (((minor & 0xfff00) << 12) | (major << 8) | (minor & 0xff)) >>> 0;
  const failed = Number(mknod(path, S_IFBLK | 0o600, device)) < 0 ? koffi.errno() : 0;
  if (failed !== 0 && failed !== constants.errno.EEXIST) throw new Error(`mknod of ${path}: errno ${failed}`);
  if (Number(lchown(path, uid, uid)) < 0) throw new Error(`chown of ${path}: errno ${koffi.errno()}`);
}

function perform(step: MountJob['steps'][number]): void {
  switch (step.do) {
    case 'attach':
      return attachTree(step.tree, step.target);
    case 'attach to itself': {
      using tree = clonePath(step.target);
      return attachTree(tree.fd, step.target);
    }
    case 'change':
      return changeMount(step.target, step.change);
    case 'make block node':
      return makeBlockNode(step.node);
    case 'detach':
      return detachTree(step.target);
  }
}
