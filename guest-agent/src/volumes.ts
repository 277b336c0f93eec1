import { mkdir, realpath, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';
import { mount, mountFlags, unmount } from './native.ts';
import { paths } from './paths.ts';
import { mountLayer } from './rootfs.ts';

export type VolumeRequest =
  | { readonly source: string; readonly kind: 'shared'; readonly number: number }
  | {
      readonly source: string;
      readonly kind: 'image';
      readonly layerSerials: readonly string[];
      readonly subPath: string;
    };

/** As src/vm plugs it in. */
const SHARE_TAG = 'caisson';
const PLUG_TIMEOUT_MS = 20_000;
const PLUG_POLL_MS = 10;

/** Makes the volumes of a container mountable; returns the path that stands behind each source. */
export async function prepareVolumes(id: string, requests: readonly VolumeRequest[]): Promise<Map<string, string>> {
  const sources = new Map<string, string>();
  for (const request of requests) {
    sources.set(
      request.source,
      request.kind === 'image' ? await imageVolume(request) : await sharedVolume(id, request.number),
    );
  }
  return sources;
}

/**
 * The container's files of the share are a mount of their own, with mounts for its directories: without them the guest
 * forgets the files, and the host can let go of them. Containers that still run keep what they have.
 */
export function releaseVolumes(id: string): void {
  unmount(`${paths.volumes}/${id}`);
}

async function sharedVolume(id: string, number: number): Promise<string> {
  await mountShare();
  const path = `${paths.volumes}/${id}/${number}`;
  // the kernel mounts what is a mount on the host when somebody goes into it
  await stat(`${paths.volumes}/${id}/.`);
  if ((await stat(path)).isDirectory()) await stat(`${path}/.`);
  return path;
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

/** Layers of an image, over one another; they stay mounted for the life of the VM. */
const images = new Map<string, Promise<string>>();

async function imageVolume({ layerSerials, subPath }: Extract<VolumeRequest, { kind: 'image' }>): Promise<string> {
  const key = layerSerials.join();
  const mounted = images.get(key) ?? mountImage(layerSerials, `${paths.images}/${images.size}`);
  images.set(key, mounted);
  mounted.catch(() => images.delete(key));
  const root = await mounted;
  if (subPath === '') return root;
  const path = await realpath(`${root}/${subPath}`).catch(() => '');
  // nobody can change a link meanwhile: the image is read-only
  if (path === root || path.startsWith(`${root}/`)) return path;
  throw new CaissonError('invalid_argument', `there is no ${JSON.stringify(subPath)} in the image of the volume`);
}

async function mountImage(layerSerials: readonly string[], path: string): Promise<string> {
  const lower = await Promise.all(layerSerials.map(mountLayer));
  const [only] = lower;
  if (lower.length === 1 && only !== undefined) return only;
  await mkdir(path, { recursive: true });
  mount('overlay', path, 'overlay', mountFlags.readOnly, `lowerdir=${lower.toReversed().join(':')}`);
  return path;
}
