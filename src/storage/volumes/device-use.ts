import { open, realpath } from 'node:fs/promises';
import { constants } from 'node:fs';
import { KeyedMutex } from '../../lib/async.ts';
import { isErrno } from '../../lib/errors.ts';
import { ignoreMissing } from '../../lib/files.ts';
import type { HostPath } from '../contracts.ts';
import { isBelow, readMounts } from './mountinfo.ts';

/** What the node itself does with a block device, in words; undefined: nothing. */
export async function useOf({ fd, device }: Pick<HostPath, 'fd' | 'device'>): Promise<string | undefined> {
  const mountpoint = await mountedFrom(device);
  if (mountpoint !== undefined) return `has mounted on ${mountpoint}`;
  return (await isClaimed(fd)) ? 'uses: lsblk may tell for what' : undefined;
}

/** Partitions are below their disk in sysfs. */
async function mountedFrom({ major, minor }: HostPath['device']): Promise<string | undefined> {
  const inSysfs = (device: string): Promise<string> => realpath(`/sys/dev/block/${device}`).catch(ignoreMissing(''));
  const asked = await inSysfs(`${major}:${minor}`);
  if (asked === '') return undefined;
  const mounts = await readMounts('self');
  const places = await Promise.all(mounts.map(async ({ device }) => inSysfs(device)));
  return mounts.find((_, index) => places[index] !== '' && isBelow(places[index] ?? '', asked))?.mountpoint;
}

const order = new KeyedMutex();

/**
 * Whether somebody else has claimed the device, or a part of it, from the kernel: who mounts it, in whatever mount
 * namespace, swaps to it, or builds a volume upon it, does. QEMU does not, so that pods may share a device. Two looks at
 * once would see each other.
 */
async function isClaimed(fd: number): Promise<boolean> {
  return await order.run('claim', async () => {
    try {
      await using _claimed = await open(
        `/proc/self/fd/${fd}`,
        constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK,
      );
      return false;
    } catch (error) {
      return isErrno(error, 'EBUSY'); // of other troubles QEMU tells
    }
  });
}
