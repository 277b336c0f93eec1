import { posix } from 'node:path';
import type { ImageConfig } from '../image/contracts.ts';
import type { ContainerConfig, PodSandboxConfig } from './contracts.ts';
import type { SpecDevice } from './devices.ts';
import type { SpecMount } from './mounts.ts';
import { capabilitySets } from './oci-capabilities.ts';
import { ociResources } from './oci-resources.ts';
import type { SeccompProfile } from './seccomp/index.ts';

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

export interface OciSpecInput {
  readonly containerId: string;
  readonly config: ContainerConfig;
  readonly sandboxConfig: Pick<PodSandboxConfig, 'hostname'>;
  readonly image: ImageConfig;
  /** what the config's mounts come to */
  readonly mounts: readonly SpecMount[];
  /** undefined: every system call is allowed */
  readonly seccomp?: SeccompProfile | undefined;
  /** character devices besides those of every container */
  readonly devices: readonly SpecDevice[];
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
      capabilities: capabilitySets(security?.capabilities ?? null, privileged),
      oomScoreAdj: clampOomScore(resources?.oom_score_adj),
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: OPEN_FILES, hard: OPEN_FILES }],
    },
    mounts: mounts(privileged, input.mounts),
    annotations: { 'io.kubernetes.cri.container-type': 'container' },
    linux: {
      cgroupsPath: `/caisson/${input.containerId}`,
      namespaces: namespaces(config),
      seccomp: input.seccomp,
      resources: ociResources(resources ?? null, privileged, input.devices),
      devices: input.devices.map(({ path, major, minor }) => ({ type: 'c', path, major, minor, fileMode: 0o666 })),
      maskedPaths: privileged ? [] : orDefault(security?.masked_paths, MASKED_PATHS),
      readonlyPaths: privileged ? [] : orDefault(security?.readonly_paths, READONLY_PATHS),
    },
  };
}

/** As Kubernetes has it: command replaces the entrypoint, and then the image's arguments no longer apply. */
export function processArgs(config: ContainerConfig, image: ImageConfig): string[] {
  const command = config.command.length > 0 ? config.command : image.entrypoint;
  const ownArgs = config.args.length > 0 || config.command.length > 0;
  return [...command, ...(ownArgs ? config.args : image.cmd)];
}

function environment(config: ContainerConfig, image: ImageConfig, hostname: string): string[] {
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

function namespaces(config: ContainerConfig): object[] {
  const pid = config.linux?.security_context?.namespace_options?.pid ?? 'CONTAINER';
  // POD and NODE: the guest's own pid namespace, which only this pod's containers and the agent share
  const own = pid === 'CONTAINER' ? [{ type: 'pid' }] : [];
  return [...own, { type: 'mount' }, { type: 'cgroup' }];
}

/** The caller's mounts take the place of ours at the same path; ours come first, so that none hides theirs. */
function mounts(privileged: boolean, asked: readonly SpecMount[]): object[] {
  const taken = new Set(asked.map(({ destination }) => posix.resolve(destination)));
  const free = ({ destination }: StandardMount): boolean => !taken.has(destination);
  return [...standardMounts(privileged).filter(free), ...asked.map((mount) => ({ type: 'bind', ...mount }))];
}

interface StandardMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

function standardMounts(privileged: boolean): StandardMount[] {
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
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: sealed },
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
