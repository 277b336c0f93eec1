import type { GuestVolume } from '../agent/contracts.ts';
import { posix } from 'node:path';
import type { Image, ImageConfig } from '../image/contracts.ts';
import { CaissonError } from '../lib/errors.ts';
import type { IdMappings, IdRange } from '../lib/user-namespace.ts';
import type { Bind, HostPath } from '../storage/contracts.ts';
import { layerSerial } from './layers.ts';
import type { PodContext } from './context.ts';
import type { ContainerConfig, CriMount } from './contracts.ts';

/** A mount of the container's OCI spec. */
export interface SpecMount {
  readonly destination: string;
  /** stands for a volume, until the agent puts its path there */
  readonly source: string;
  readonly options: readonly string[];
}

/** What the mounts of a container come to. Holds the host paths open until it is disposed. */
export interface MountPlan extends AsyncDisposable {
  readonly mounts: readonly SpecMount[];
  readonly volumes: readonly GuestVolume[];
  /** for the pod's share: a volume names its bind by the place in this list */
  readonly binds: readonly Bind[];
  /** of image volumes */
  readonly images: readonly Image[];
}

interface Part {
  readonly options: readonly string[];
  readonly volume: (source: string) => GuestVolume;
}

/**
 * Looks at every host path and image that the container's mounts name, and at the volumes that its image declares.
 * Throws as `VolumePort.open`, or `not_found`.
 */
export async function planMounts(
  context: PodContext,
  config: ContainerConfig,
  image: Pick<ImageConfig, 'volumes'>,
): Promise<MountPlan> {
  await using undo = new AsyncDisposableStack();
  const binds: Bind[] = [];
  const images: Image[] = [];
  const parts: (Part & { readonly destination: string })[] = [];
  for (const mount of config.mounts) {
    const part = mount.image
      ? imagePart(context, mount, images)
      : hostPart(mount, undo.use(await context.volumes.open(mount.host_path)), binds);
    parts.push({ ...part, destination: mount.container_path });
  }
  parts.push(...ownParts(image.volumes, new Set(parts.map(({ destination }) => posix.resolve(destination)))));
  const held = undo.move();
  const source = (number: number): string => `caisson:volume/${number}`;
  const mounts = parts.map(({ destination, options }, number) => ({ destination, options, source: source(number) }));
  return {
    // a mount hides what is mounted below it, so those come later
    mounts: mounts.toSorted((a, b) => depth(a) - depth(b)),
    volumes: parts.map(({ volume }, number) => volume(source(number))),
    binds,
    images,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** A declared volume is writable also where the root file system is not. What is mounted there takes its place. */
function ownParts(
  declared: readonly string[],
  taken: ReadonlySet<string>,
): (Part & { readonly destination: string })[] {
  const paths = new Set(declared.map((path) => posix.resolve('/', path)));
  const free = [...paths].filter((path) => path !== '/' && !path.includes('\0') && !taken.has(path));
  return free.slice(0, MAX_DECLARED).map((destination) => ({
    destination,
    options: ['bind', 'rw', 'nosuid', 'nodev'],
    volume: (source) => ({ source, kind: 'own', path: destination }),
  }));
}

/** Images are hostile. */
const MAX_DECLARED = 100;

const depth = ({ destination }: SpecMount): number => destination.split('/').filter(Boolean).length;

function imagePart(context: PodContext, mount: CriMount, images: Image[]): Part {
  const name = mount.image?.image ?? '';
  const image = context.images.find(name);
  if (!image) {
    throw new CaissonError('not_found', `config.mounts: image ${JSON.stringify(name)} has not been pulled`);
  }
  images.push(image);
  return {
    options: ['bind', 'ro', 'noexec', 'nosuid', 'nodev'],
    volume: (source) => ({
      source,
      kind: 'image',
      layerSerials: image.layers.map(layerSerial),
      subPath: mount.image_sub_path,
    }),
  };
}

function hostPart(mount: CriMount, path: HostPath, binds: Bind[]): Part {
  const followsHost = mount.propagation === 'PROPAGATION_HOST_TO_CONTAINER';
  if (followsHost && !path.propagates) {
    throw new CaissonError(
      'failed_precondition',
      `config.mounts: ${path.path} is on a mount that passes nothing on, so HostToContainer has no meaning`,
      { hint: 'mount --make-rshared on the node' },
    );
  }
  if (path.kind === 'block device' || path.kind === 'character device') {
    throw new CaissonError('failed_precondition', `config.mounts: ${path.path} is a ${path.kind} of the node`, {
      hint: 'name it in config.devices',
    });
  }
  const owners = mappingsOf(mount);
  if (path.memory) {
    const memory = owners ? { ...path.memory, ...mapped(path.memory, owners) } : path.memory;
    return {
      options: ['rbind', 'rprivate', mount.readonly ? 'ro' : 'rw'],
      volume: (source) => ({ source, kind: 'memory', ...memory }),
    };
  }
  const readOnly = mount.recursive_read_only ? 'recursive' : mount.readonly ? 'yes' : 'no';
  const number = binds.length;
  binds.push({ source: path, readOnly, followsHost, owners });
  // in the guest everything below is as read-only as the mount itself; where that would be too much, the host's word counts
  const alsoInGuest = readOnly === 'recursive' || (readOnly === 'yes' && !followsHost && !path.hasSubmounts);
  return {
    options: ['rbind', followsHost ? 'rslave' : 'rprivate', alsoInGuest ? 'ro' : 'rw'],
    volume: (source) =>
      path.data !== undefined && alsoInGuest
        ? { source, kind: 'mirrored', number, data: path.data }
        : { source, kind: 'shared', number },
  };
}

function mappingsOf({ uidMappings, gidMappings }: CriMount): IdMappings | undefined {
  if (uidMappings.length === 0) return undefined;
  const range = ({ container_id, host_id, length }: CriMount['uidMappings'][number]): IdRange => ({
    container: container_id,
    host: host_id,
    length,
  });
  return { uids: uidMappings.map(range), gids: gidMappings.map(range) };
}

/** Who owns it outside of the user namespace. */
function mapped(owner: { readonly uid: number; readonly gid: number }, { uids, gids }: IdMappings) {
  const map = (id: number, ranges: readonly IdRange[]): number => {
    const range = ranges.find(({ container, length }) => id >= container && id < container + length);
    return range ? range.host + id - range.container : NOBODY;
  };
  return { uid: map(owner.uid, uids), gid: map(owner.gid, gids) };
}

const NOBODY = 65_534;
