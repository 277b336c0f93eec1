import { mkdir, rm } from 'node:fs/promises';
import { findDisk } from './disks.ts';
import { mount, mountFlags, unmount } from './native.ts';
import { containerPaths, layerPath } from './paths.ts';

/** Serial of a layer's disk to where it is mounted; layers stay mounted for the life of the VM. */
const layers = new Map<string, Promise<string>>();
let layerCount = 0;

/** Mounts the layers (bottom first) and the overlay over them; returns the root file system's path. */
export async function mountRootfs(id: string, layerSerials: readonly string[]): Promise<string> {
  const { rootfs, writable } = containerPaths(id);
  const lower = await Promise.all(layerSerials.map(mountLayer));
  await mkdir(`${writable}/upper`, { recursive: true, mode: 0o755 });
  await mkdir(`${writable}/work`, { recursive: true });
  await mkdir(rootfs, { recursive: true });
  // volatile: the disk lives no longer than the pod, so nobody gains from its syncs
  const options = `lowerdir=${lower.toReversed().join(':')},upperdir=${writable}/upper,workdir=${writable}/work,volatile`;
  mount('overlay', rootfs, 'overlay', 0, options);
  return rootfs;
}

export async function unmountRootfs(id: string): Promise<void> {
  const { home, rootfs, writable } = containerPaths(id);
  unmount(rootfs);
  await rm(writable, { recursive: true, force: true });
  await rm(home, { recursive: true, force: true });
}

/** Mounts the layer unless it is; returns where. */
export function mountLayer(serial: string): Promise<string> {
  const known = layers.get(serial);
  if (known) return known;
  const mounted = mountNew(serial, layerPath(layerCount++));
  layers.set(serial, mounted);
  mounted.catch(() => layers.delete(serial));
  return mounted;
}

async function mountNew(serial: string, path: string): Promise<string> {
  const disk = await findDisk(serial);
  await mkdir(path, { recursive: true });
  mount(disk, path, 'erofs', mountFlags.readOnly, '');
  return path;
}
