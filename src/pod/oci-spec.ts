import { posix } from 'node:path';
import type { ImageConfig } from '../image/contracts.ts';
import type { ContainerConfig, PodSandboxConfig } from './contracts.ts';
import type { SpecDevice } from './devices.ts';
import type { SpecMount } from './mounts.ts';
import { capabilitySets } from './oci-capabilities.ts';
import { ociResources } from './oci-resources.ts';
import type { SeccompProfile } from './seccomp/index.ts';
import type { IdMapping, UserNamespace } from './user-namespace.ts';

/** What other runtimes give; the agent's own limit is lower. */
const OPEN_FILES = 1_048_576;
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Kernel interfaces that a container shall not see; the defaults every runtime uses. */
const MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/interrupts',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** What a spec is made of, apart from mounts. */
export type OciConfig = Pick<ContainerConfig, 'linux' | 'tty' | 'working_dir' | 'command' | 'args' | 'envs'>;

export interface OciSpecInput {
  readonly containerId: string;
  readonly config: OciConfig;
  readonly sandboxConfig: Pick<PodSandboxConfig, 'hostname'>;
  readonly image: ImageConfig;
  /** what the config's mounts come to */
  readonly mounts: readonly SpecMount[];
  /** undefined: every system call is allowed */
  readonly seccomp?: SeccompProfile | undefined;
  /** a profile that the guest's kernel knows; undefined: unconfined */
  readonly appArmor?: string | undefined;
  /** character devices besides those of every container */
  readonly devices: readonly SpecDevice[];
  /** the pod's */
  readonly userNamespace?: UserNamespace | undefined;
}

/**
 * The OCI runtime spec of a container: a pure function of what the caller and the image say. The guest agent fills in
 * the root's path, the user's ids and the sources of mounts that start with `caisson:`.
 * The pod's network, ipc and uts namespaces are the VM's own, so none are listed.
 */
export function ociSpec(input: OciSpecInput): object {
  const { config, image } = input;
  const security = config.linux?.security_context;
  const privileged = security?.privileged ?? false;
  const resources = config.linux?.resources;
  // nothing at all is how Kubernetes asks for an unmasked /proc, which it allows in user namespaces only
  const unmasked = input.userNamespace && !security?.masked_paths.length && !security?.readonly_paths.length;
  const standard = (paths: readonly string[]): readonly string[] => (unmasked ? [] : paths);
  return {
    ociVersion: '1.1.0',
    hostname: undefined,
    root: { path: 'rootfs', readonly: security?.readonly_rootfs ?? false },
    process: {
      terminal: config.tty,
      args: processArgs(config, image),
      cwd: config.working_dir || image.workingDir || '/',
      env: environment(config, image, input.sandboxConfig.hostname),
      noNewPrivileges: security?.no_new_privs ?? false,
      apparmorProfile: input.appArmor,
      capabilities: capabilitySets(security?.capabilities ?? null, privileged),
      oomScoreAdj: clampOomScore(resources?.oom_score_adj),
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: OPEN_FILES, hard: OPEN_FILES }],
    },
    mounts: mounts(privileged, input.userNamespace !== undefined, input.mounts),
    annotations: { 'io.kubernetes.cri.container-type': 'container' },
    linux: {
      cgroupsPath: `/caisson/${input.containerId}`,
      namespaces: namespaces(config, input.userNamespace),
      ...idMappings(input.userNamespace),
      seccomp: input.seccomp,
      resources: ociResources(resources ?? null, privileged, input.devices),
      devices: input.devices.map(({ path, major, minor }) => ({ type: 'c', path, major, minor, fileMode: 0o666 })),
      maskedPaths: privileged ? [] : orDefault(security?.masked_paths, standard(MASKED_PATHS)),
      readonlyPaths: privileged ? [] : orDefault(security?.readonly_paths, standard(READONLY_PATHS)),
    },
  };
}

/** As Kubernetes has it: command replaces the entrypoint, and then the image's arguments no longer apply. */
export function processArgs(config: OciConfig, image: ImageConfig): string[] {
  const command = config.command.length > 0 ? config.command : image.entrypoint;
  const ownArgs = config.args.length > 0 || config.command.length > 0;
  return [...command, ...(ownArgs ? config.args : image.cmd)];
}

function environment(config: OciConfig, image: ImageConfig, hostname: string): string[] {
  const own = config.envs.map(({ key, value }) => [key, value.toString('utf8')] as const);
  const fromImage = image.env.map((entry) => {
    const at = entry.indexOf('=');
    return at === -1 ? ([entry, ''] as const) : ([entry.slice(0, at), entry.slice(at + 1)] as const);
  });
  const values = new Map<string, string>([...fromImage, ...own]);
  const path = values.has('PATH') ? [] : [DEFAULT_PATH];
  const name = hostname === '' || values.has('HOSTNAME') ? [] : [`HOSTNAME=${hostname}`];
  const term = config.tty && !values.has('TERM') ? ['TERM=xterm'] : [];
  return [...path, ...name, ...term, ...values.entries().map(([key, value]) => `${key}=${value}`)];
}

/** Names instead of paths are for the agent, which finds the namespace when the container starts. */
function namespaces(config: OciConfig, userNamespace: UserNamespace | undefined): object[] {
  const user = userNamespace ? [{ type: 'user' }] : [];
  const pid = pidNamespace(config, userNamespace !== undefined);
  return [...user, ...pid, { type: 'mount' }, { type: 'cgroup' }];
}

function pidNamespace(config: OciConfig, mapped: boolean): object[] {
  const { pid = 'CONTAINER', target_id = '' } = config.linux?.security_context?.namespace_options ?? {};
  // each container has a user namespace of its own, with the pod's mapping: none may mount a /proc of another's processes
  if (mapped) return [{ type: 'pid' }];
  if (pid === 'POD') return [{ type: 'pid', path: 'caisson:pid-of-pod' }];
  if (pid === 'TARGET') return [{ type: 'pid', path: `caisson:pid-of:${target_id}` }];
  // NODE: for a pod in a VM, that is the VM
  return pid === 'NODE' ? [] : [{ type: 'pid' }];
}

const ociMapping = ({ container_id, host_id, length }: IdMapping) => ({
  containerID: container_id,
  hostID: host_id,
  size: length,
});

function idMappings(userNamespace: UserNamespace | undefined): object {
  if (!userNamespace) return {};
  return { uidMappings: [ociMapping(userNamespace.uids)], gidMappings: [ociMapping(userNamespace.gids)] };
}

/** The caller's mounts take the place of ours at the same path; ours come first, so that none hides theirs. */
function mounts(privileged: boolean, mapped: boolean, asked: readonly SpecMount[]): object[] {
  const taken = new Set(asked.map(({ destination }) => posix.resolve(destination)));
  const free = ({ destination }: StandardMount): boolean => !taken.has(destination);
  return [...standardMounts(privileged, mapped).filter(free), ...asked.map((mount) => ({ type: 'bind', ...mount }))];
}

interface StandardMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

function standardMounts(privileged: boolean, mapped: boolean): StandardMount[] {
  const sealed = ['nosuid', 'noexec', 'nodev'];
  const readOnly = privileged ? 'rw' : 'ro';
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: sealed },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    // the kernel lets only the owner of the VM's ipc namespace mount it
    mapped
      ? { destination: '/dev/mqueue', type: 'bind', source: 'caisson:mqueue', options: ['rbind', ...sealed] }
      : { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: sealed },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...sealed, readOnly] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...sealed, 'relatime', readOnly] },
    { destination: '/dev/shm', type: 'bind', source: 'caisson:shm', options: ['rbind', 'nosuid', 'nodev', 'noexec'] },
    ...['resolv.conf', 'hosts', 'hostname'].map((file) => ({
      destination: `/etc/${file}`,
      type: 'bind',
      source: `caisson:${file}`,
      options: ['rbind', 'rprivate', 'rw'],
    })),
  ];
}

const orDefault = (asked: readonly string[] | undefined, standard: readonly string[]): readonly string[] =>
  asked && asked.length > 0 ? asked : standard;

const clampOomScore = (score: string | undefined): number => Math.max(-999, Math.min(1000, Number(score ?? 0)));
