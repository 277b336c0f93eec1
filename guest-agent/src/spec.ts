import { paths } from './paths.ts';
import type { ResolvedUser } from './users.ts';

/** The parts of an OCI runtime spec that the agent looks at; the rest passes through to crun. */
export interface OciSpec {
  readonly process: OciProcess;
  readonly mounts: readonly { readonly source?: string; readonly destination: string }[];
  readonly linux: {
    readonly resources?: Readonly<Record<string, object>>;
    readonly namespaces?: readonly OciNamespace[];
    readonly uidMappings?: readonly OciIdMapping[];
    readonly gidMappings?: readonly OciIdMapping[];
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

export interface OciNamespace {
  readonly type: string;
  readonly path?: string;
}

export interface OciIdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

export interface OciProcess {
  readonly terminal?: boolean;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly user?: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] };
  readonly apparmorProfile?: string;
  readonly capabilities?: { readonly effective?: readonly string[] };
  readonly [key: string]: unknown;
}

/** Of OCI's `linux.resources`. */
export interface OciHugePageLimit {
  /** as in the name of a cgroup's file, such as `2MB` */
  readonly pageSize: string;
  /** bytes */
  readonly limit: number;
}

/** Undefined when they say nothing about huge pages. */
export const hugePageLimits = (resources: OciSpec['linux']['resources']): readonly OciHugePageLimit[] | undefined =>
  resources?.['hugepageLimits'] as readonly OciHugePageLimit[] | undefined;

/** Files of the pod that the host names without knowing where the agent keeps them. */
const podFiles: Readonly<Record<string, string>> = {
  'caisson:resolv.conf': paths.resolvConf,
  'caisson:hosts': paths.hosts,
  'caisson:hostname': paths.hostname,
  'caisson:shm': paths.shm,
  'caisson:mqueue': paths.mqueue,
};

const podFile = (source: string, volumes: ReadonlyMap<string, string>): { source?: string } => {
  const path = volumes.get(source) ?? podFiles[source];
  return path === undefined ? {} : { source: path };
};

/** The daemon built it: it is trusted, unlike what comes from images. */
export function parseSpec(json: string): OciSpec {
  return JSON.parse(json) as OciSpec;
}

/** The spec with limits changed, controller by controller; `resources` is OCI's as JSON. */
export function withResources(spec: OciSpec, resources: string): OciSpec {
  const changed = Object.entries(JSON.parse(resources) as Record<string, object>);
  const before = spec.linux.resources ?? {};
  const merged = changed.map(([name, value]) => [name, Array.isArray(value) ? value : { ...before[name], ...value }]);
  return { ...spec, linux: { ...spec.linux, resources: { ...before, ...Object.fromEntries(merged) } } };
}

/** Fills in what only the guest knows: the root's path, the user's ids and home, sources of the pod's files and volumes. */
export function placeInGuest(
  spec: OciSpec,
  rootfs: string,
  user: ResolvedUser,
  volumes: ReadonlyMap<string, string>,
): OciSpec {
  const env = spec.process.env;
  const home = user.home !== undefined && !env.some((entry) => entry.startsWith('HOME=')) ? [`HOME=${user.home}`] : [];
  return {
    ...spec,
    root: { ...(spec['root'] as object), path: rootfs },
    mounts: spec.mounts.map((mount) => ({ ...mount, ...podFile(mount.source ?? '', volumes) })),
    process: {
      ...spec.process,
      env: [...env, ...home],
      user: { uid: user.uid, gid: user.gid, additionalGids: user.supplementalGroups },
    },
  };
}
