import { stat, statfs } from 'node:fs/promises';
import type { MemoryVolume } from '../contracts.ts';
import { locate, type MountEntry } from './mountinfo.ts';

/** The kubelet mounts a tmpfs there for an emptyDir of medium Memory, whose size is its limit, or a hugetlbfs for HugePages. */
const EMPTY_DIR = /\/volumes\/kubernetes\.io~empty-dir\/[^/]+$/;

/** The emptyDir that `path` is in, also when it is a subPath of one, which the kubelet mounts elsewhere. */
export async function memoryVolume(
  mount: MountEntry,
  path: string,
  mounts: readonly MountEntry[],
): Promise<MemoryVolume | undefined> {
  if (mount.type !== 'tmpfs' && mount.type !== 'hugetlbfs') return undefined;
  const emptyDir = mounts.find(
    ({ device, root, mountpoint }) => device === mount.device && root === '/' && EMPTY_DIR.test(mountpoint),
  );
  if (!emptyDir) return undefined;
  const [root, size] = await Promise.all([stat(emptyDir.mountpoint), statfs(emptyDir.mountpoint)]);
  return {
    key: mount.device.replace(':', '-'),
    pageBytes: mount.type === 'hugetlbfs' ? size.bsize : 0,
    sizeBytes: size.blocks * size.bsize,
    mode: root.mode & 0o7777,
    uid: root.uid,
    gid: root.gid,
    subPath: locate(mount, path).path.slice(1),
  };
}
