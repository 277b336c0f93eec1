import { chmod, chown, mkdir, open, readdir, realpath, stat, type FileHandle } from 'node:fs/promises';
import { constants } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';
import { ignoreMissing, removeTree } from '../../src/lib/files.ts';
import { makeMirror, syncMirror, type Mirror } from './mirror.ts';
import { mount, mountFlags, unmount } from './native.ts';
import { containerPaths, paths } from './paths.ts';
import { mountLayers } from './rootfs.ts';
import { runCommand } from './command.ts';
import type { IdMappings } from './id-mapping.ts';

export type VolumeRequest =
  | { readonly source: string; readonly kind: 'shared'; readonly number: number }
  | { readonly source: string; readonly kind: 'mirrored'; readonly number: number; readonly data: string }
  | ({ readonly source: string; readonly kind: 'memory' } & MemoryRequest)
  | ({ readonly source: string; readonly kind: 'image' } & ImageRequest)
  | { readonly source: string; readonly kind: 'own'; readonly path: string };

interface MemoryRequest {
  readonly key: string;
  /** decimal; 0: a tmpfs */
  readonly pageBytes: string;
  /** decimal; 0: as much as there is */
  readonly sizeBytes: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly subPath: string;
}

interface ImageRequest {
  readonly layerSerials: readonly string[];
  readonly subPath: string;
}

/** As src/vm plugs it in. */
const SHARE_TAG = 'caisson';
const PLUG_TIMEOUT_MS = 20_000;
const PLUG_POLL_MS = 10;

/** Of one container: its part of the share, copies of it, and mounts of parts of memory volumes. */
const placesOf = (id: string) => ({
  shared: `${paths.volumes}/${id}`,
  mirrors: `${paths.mirrors}/${id}`,
  parts: `${paths.parts}/${id}`,
});

const mirrors = new Map<string, Map<number, Mirror>>();
const parts = new Map<string, string[]>();

/** Makes the volumes of a container mountable; returns the path that stands behind each source. */
export async function prepareVolumes(
  id: string,
  requests: readonly VolumeRequest[],
  mappings: IdMappings | undefined,
): Promise<Map<string, string>> {
  const sources = new Map<string, string>();
  for (const request of requests) sources.set(request.source, await prepare(id, request, mappings));
  return sources;
}

function prepare(id: string, request: VolumeRequest, mappings: IdMappings | undefined): Promise<string> {
  if (request.kind === 'shared') return sharedVolume(id, request.number);
  if (request.kind === 'own') return ownVolume(id, request.path);
  if (request.kind === 'mirrored') return mirroredVolume(id, request.number, request.data);
  return request.kind === 'memory' ? memoryVolume(id, request) : imageVolume(request, mappings);
}

/**
 * The container's files of the share are a mount of their own, with mounts for its directories: without them the guest
 * forgets the files, and the host can let go of them. Containers that still run keep what they have.
 */
export async function releaseVolumes(id: string): Promise<void> {
  const { shared, mirrors: copies, parts: home } = placesOf(id);
  unmount(shared);
  for (const part of parts.get(id) ?? []) unmount(part);
  parts.delete(id);
  mirrors.delete(id);
  await removeTree(copies);
  await removeTree(home);
}

/** A volume that is not mirrored, or no more, is left alone. */
export async function syncVolume(id: string, number: number, data: string): Promise<void> {
  const mirror = mirrors.get(id)?.get(number);
  if (mirror) await syncMirror(mirror, data);
}

async function sharedVolume(id: string, number: number): Promise<string> {
  await mountShare();
  const { shared } = placesOf(id);
  const path = `${shared}/${number}`;
  // the kernel mounts what is a mount on the host when somebody goes into it
  await stat(`${shared}/.`);
  if ((await stat(path)).isDirectory()) await stat(`${path}/.`);
  return path;
}

async function mirroredVolume(id: string, number: number, data: string): Promise<string> {
  const from = await sharedVolume(id, number);
  const mirror = { from, to: `${placesOf(id).mirrors}/${number}` };
  if (!(await makeMirror(mirror, data))) return from;
  const known = mirrors.get(id) ?? new Map<number, Mirror>();
  mirrors.set(id, known.set(number, mirror));
  return mirror.to;
}

let share: Promise<void> | undefined;

function mountShare(): Promise<void> {
  share ??= mountWhenPlugged();
  share.catch(() => (share = undefined));
  return share;
}

/** A device that is being plugged in needs a moment, and has no event that reaches us. */
async function mountWhenPlugged(): Promise<void> {
  await mkdir(paths.volumes, { recursive: true, mode: 0o700 });
  for (const deadline = Date.now() + PLUG_TIMEOUT_MS; ; await sleep(PLUG_POLL_MS)) {
    try {
      return mount(SHARE_TAG, paths.volumes, 'virtiofs', mountFlags.nosuid | mountFlags.nodev, '');
    } catch (error) {
      if (!isErrno(error, 'EINVAL') || Date.now() > deadline) throw error;
    }
  }
}

/** Of the pod, by key; they stay until the VM ends. */
const memories = new Map<string, Promise<string>>();

async function memoryVolume(id: string, request: MemoryRequest): Promise<string> {
  const { key, subPath } = request;
  if (!/^[\d-]+$/.test(key)) throw new CaissonError('invalid_argument', `${JSON.stringify(key)} is not a volume's key`);
  const mounted = memories.get(key) ?? mountMemory(request);
  memories.set(key, mounted);
  mounted.catch(() => memories.delete(key));
  const root = await mounted;
  if (subPath === '') return root;
  const known = parts.get(id) ?? [];
  const path = `${placesOf(id).parts}/${known.length}`;
  await mkdir(path, { recursive: true });
  await using part = await openBelow(root, subPath);
  mount(`/proc/self/fd/${part.fd}`, path, '', mountFlags.bind, '');
  parts.set(id, [...known, path]);
  return path;
}

async function mountMemory({ key, pageBytes, sizeBytes, mode, uid, gid }: MemoryRequest): Promise<string> {
  const path = `${paths.memory}/${key}`;
  await mkdir(path, { recursive: true });
  const size = sizeBytes === '0' ? '' : `size=${BigInt(sizeBytes)},`;
  const data = `${size}mode=${mode.toString(8)},uid=${uid},gid=${gid}`;
  if (pageBytes === '0') mount('memory', path, 'tmpfs', mountFlags.nosuid | mountFlags.nodev, data);
  else
    mount('memory', path, 'hugetlbfs', mountFlags.nosuid | mountFlags.nodev, `pagesize=${BigInt(pageBytes)},${data}`);
  return path;
}

const O_PATH = 0o10000000;

/** Containers write there: no link of theirs is followed. What is missing is made like the root of the volume. */
async function openBelow(root: string, subPath: string): Promise<FileHandle> {
  let here = await open(root, O_PATH | constants.O_DIRECTORY);
  const { mode, uid, gid } = await here.stat();
  for (const name of subPath.split('/').filter(Boolean)) {
    const path = `/proc/self/fd/${here.fd}/${name}`;
    await using _parent = here;
    if (name === '..') throw new CaissonError('invalid_argument', `${JSON.stringify(subPath)} leads out of its volume`);
    const made = await mkdir(path).then(
      () => true,
      (error: unknown) => {
        if (isErrno(error, 'EEXIST')) return false;
        throw error;
      },
    );
    here = await open(path, O_PATH | constants.O_NOFOLLOW);
    if ((await here.stat()).isSymbolicLink()) {
      await here.close();
      throw new CaissonError('invalid_argument', `${JSON.stringify(subPath)} is a symbolic link in its volume`);
    }
    if (!made) continue;
    await chown(`/proc/self/fd/${here.fd}`, uid, gid);
    await chmod(`/proc/self/fd/${here.fd}`, mode & 0o7777);
  }
  return here;
}

/**
 * A directory on the pod's disk, beside the container's root file system and gone with it. It begins as the image has it:
 * content, owners and modes. The image decides what is at `path`, so no link leads out of its root.
 */
async function ownVolume(id: string, path: string): Promise<string> {
  const { rootfs, writable } = containerPaths(id);
  const home = `${writable}/volumes`;
  await mkdir(home, { recursive: true, mode: 0o700 });
  const own = `${home}/${(await readdir(home)).length}`;
  const original = await realpath(`${rootfs}/${path}`).catch(ignoreMissing(''));
  const isThere = original.startsWith(`${rootfs}/`) && (await stat(original)).isDirectory();
  await runCommand('/usr/bin/busybox', isThere ? ['cp', '-a', original, own] : ['mkdir', own]);
  return own;
}

/** Layers of an image, over one another; they stay mounted for the life of the VM. */
const images = new Map<string, Promise<string>>();

async function imageVolume({ layerSerials, subPath }: ImageRequest, mappings: IdMappings | undefined): Promise<string> {
  const key = `${layerSerials.join()} ${JSON.stringify(mappings)}`;
  const mounted = images.get(key) ?? mountImage(layerSerials, `${paths.images}/${images.size}`, mappings);
  images.set(key, mounted);
  mounted.catch(() => images.delete(key));
  const root = await mounted;
  if (subPath === '') return root;
  const path = await realpath(`${root}/${subPath}`).catch(() => '');
  // nobody can change a link meanwhile: the image is read-only
  if (path === root || path.startsWith(`${root}/`)) return path;
  throw new CaissonError('invalid_argument', `there is no ${JSON.stringify(subPath)} in the image of the volume`);
}

async function mountImage(
  layerSerials: readonly string[],
  path: string,
  mappings: IdMappings | undefined,
): Promise<string> {
  const lower = await mountLayers(layerSerials, mappings);
  const [only] = lower;
  if (lower.length === 1 && only !== undefined) return only;
  await mkdir(path, { recursive: true });
  mount('overlay', path, 'overlay', mountFlags.readOnly, `lowerdir=${lower.toReversed().join(':')}`);
  return path;
}
