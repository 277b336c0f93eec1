import { chownSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { findDisk } from './disks.ts';
import { mountWithMappings, rootId, type IdMappings } from './id-mapping.ts';
import { mount, mountFlags, unmount } from './native.ts';
import { containerPaths, layerPath } from './paths.ts';

/** Serial of a layer's disk (and how it is mapped) to where it is mounted; layers stay mounted for the life of the VM. */
const layers = new Map<string, Promise<string>>();
let layerCount = 0;

/** Mounts the layers (bottom first; none: the VM's own root) and the overlay over them; returns the root file system's path. */
export async function mountRootfs(
  id: string,
  layerSerials: readonly string[],
  mappings: IdMappings | undefined,
): Promise<string> {
  const { rootfs, writable } = containerPaths(id);
  const lower = layerSerials.length === 0 ? ['/'] : await mountLayers(layerSerials, mappings);
  mkdirSync(`${writable}/upper`, { recursive: true, mode: 0o755 });
  // what is written has the owners that the VM sees, so only the layers are mapped
  if (mappings) chownSync(`${writable}/upper`, rootId(mappings.uids), rootId(mappings.gids));
  mkdirSync(`${writable}/work`, { recursive: true });
  mkdirSync(rootfs, { recursive: true });
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

/** Mounts those that are not; returns where they are. */
export function mountLayers(serials: readonly string[], mappings: IdMappings | undefined): Promise<string[]> {
  return Promise.all(serials.map((serial) => (mappings ? mountMappedLayer(serial, mappings) : mountLayer(serial))));
}

/** A second mount of a layer, for the pod's user namespace. */
async function mountMappedLayer(serial: string, mappings: IdMappings): Promise<string> {
  return once(`${serial} ${JSON.stringify(mappings)}`, async (path) => {
    await mountWithMappings(await mountLayer(serial), path, mappings);
    return path;
  });
}

/** Mounts the layer unless it is; returns where. */
function mountLayer(serial: string): Promise<string> {
  return once(serial, (path) => mountNew(serial, path));
}

function once(key: string, mountOn: (path: string) => Promise<string>): Promise<string> {
  const known = layers.get(key);
  if (known) return known;
  const mounted = mountOn(layerPath(layerCount++));
  layers.set(key, mounted);
  mounted.catch(() => layers.delete(key));
  return mounted;
}

async function mountNew(serial: string, path: string): Promise<string> {
  const disk = await findDisk(serial);
  mkdirSync(path, { recursive: true });
  mount(disk, path, 'erofs', mountFlags.readOnly, '');
  return path;
}
