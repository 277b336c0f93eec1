import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { CaissonError } from '../../src/lib/errors.ts';
import { loadAppArmorPolicy, requireAppArmorProfile, type AppArmorPolicy } from './apparmor.ts';
import { withBlockDevices, type BlockDeviceRequest } from './block-devices.ts';
import { cgroupCounters, cgroupProcesses, killCgroup, removeCgroup, setFrozen } from './cgroup.ts';
import { crunDelete, crunUpdate, launch, type ProcessStreams, type StartedProcess } from './crun.ts';
import { allowUsualDevices } from './device-policy.ts';
import { keepHugePages } from './huge-pages.ts';
import { readerOf } from './descriptor.ts';
import type { ProcessEnd } from './native.ts';
import { ContainerOutput } from './output.ts';
import { kill } from './kill.ts';
import { containerPaths } from './paths.ts';
import { pipeInput, type ProcessInput } from './process-input.ts';
import { mappedUser, mappingsOf } from './id-mapping.ts';
import { withPidNamespace } from './pid-namespaces.ts';
import { mountRootfs, unmountRootfs } from './rootfs.ts';
import { forgetWritten } from './stats/written.ts';
import { resolveUser, type ResolvedUser, type UserRequest } from './users.ts';
import { prepareVolumes, releaseVolumes, type VolumeRequest } from './volumes.ts';
import { hugePageLimits, parseSpec, placeInGuest, withResources, type OciSpec } from './spec.ts';
import { writeSmall } from './small-files.ts';
import { Terminal } from './terminal.ts';
import { nowNs } from './clock.ts';

export interface ExitReport extends ProcessEnd {
  readonly finishedAtNs: bigint;
  readonly oomKilled: boolean;
}

/**
 *   created ──start──▶ running ──exit──▶ exited
 *      └──────────── remove ─────┴─────────┘
 */
export interface Container {
  readonly id: string;
  spec: OciSpec;
  readonly stdin: boolean;
  /** the first attached client that leaves closes stdin */
  readonly stdinOnce: boolean;
  readonly output: ContainerOutput;
  /** resolves when the process has ended; never before start */
  readonly exited: Promise<ExitReport>;
  /** called when a running one ends; unlike handlers of `exited`, they can be taken back */
  readonly exitWatchers: Set<(exit: ExitReport) => void>;
  /** of execs that have ended; each is removed as soon as nothing runs in it */
  readonly execCgroups: Set<string>;
  pid: number | undefined;
  /** of a running one that has a terminal */
  terminal: Terminal | undefined;
  /** of a running one that has stdin */
  input: ProcessInput | undefined;
  exit: ExitReport | undefined;
  resolveExit: (report: ExitReport) => void;
}

const containers = new Map<string, Container>();

export function getContainer(id: string): Container {
  const container = containers.get(id);
  if (!container) throw new CaissonError('not_found', `container ${id} is not in this VM`);
  return container;
}

export function requireRunning(id: string): Container {
  const container = getContainer(id);
  if (container.pid !== undefined && !container.exit) return container;
  throw new CaissonError('failed_precondition', `container ${id} is not running`);
}

export const allContainers = (): Iterable<Container> => containers.values();

export interface CreateRequest {
  readonly id: string;
  readonly layerSerials: readonly string[];
  readonly ociSpec: string;
  readonly user: UserRequest;
  readonly stdin: boolean;
  readonly volumes: readonly VolumeRequest[];
  readonly stdinOnce: boolean;
  readonly blockDevices: readonly BlockDeviceRequest[];
  readonly appArmor: AppArmorPolicy | undefined;
}

export async function createContainer(request: CreateRequest): Promise<ResolvedUser> {
  const { id } = request;
  if (!/^[0-9a-f]{8,64}$/.test(id))
    throw new CaissonError('invalid_argument', 'a container id is 8 to 64 hexadecimal digits');
  if (containers.has(id)) throw new CaissonError('already_exists', `container ${id} exists`);
  try {
    const asked = parseSpec(request.ociSpec);
    if (request.appArmor) await loadAppArmorPolicy(request.appArmor);
    requireAppArmorProfile(asked.process.apparmorProfile);
    await keepHugePages(id, hugePageLimits(asked.linux.resources) ?? []);
    const rootfs = await mountRootfs(id, request.layerSerials, mappingsOf(asked));
    const user = resolveUser(rootfs, request.user);
    const sources = await prepareVolumes(id, request.volumes, mappingsOf(asked));
    const parsed = await withBlockDevices(asked, request.blockDevices);
    const spec = placeInGuest(parsed, rootfs, user, sources);
    const { promise: exited, resolve: resolveExit } = Promise.withResolvers<ExitReport>();
    const output = new ContainerOutput();
    containers.set(id, {
      id,
      spec,
      stdin: request.stdin,
      stdinOnce: request.stdinOnce,
      output,
      exited,
      resolveExit,
      exitWatchers: new Set(),
      execCgroups: new Set(),
      pid: undefined,
      terminal: undefined,
      input: undefined,
      exit: undefined,
    });
    return user;
  } catch (error) {
    await keepHugePages(id, []);
    await releaseVolumes(id);
    await unmountRootfs(id);
    throw error;
  }
}

/** Returns the process's pid in the guest's root pid namespace. */
export async function startContainer(id: string): Promise<number> {
  const container = getContainer(id);
  if (container.pid !== undefined)
    throw new CaissonError('failed_precondition', `container ${id} has been started before`);
  const { home } = containerPaths(id);
  mkdirSync(home, { recursive: true });
  await writeSpec(container);
  const { pid, exited, streams } = await startInCgroup(container);
  container.pid = pid;
  takeStreams(container, streams);
  void exited.then((end) => finish(container, end));
  return pid;
}

async function startInCgroup({ id, spec, stdin }: Container): Promise<StartedProcess> {
  const { home, cgroup } = containerPaths(id);
  mkdirSync(cgroup, { recursive: true });
  try {
    if (!spec.linux.resources?.['devices']) allowUsualDevices(cgroup);
    return await launch((extra) => ['create', '--bundle', home, ...extra, id], {
      waiting: id,
      scratchPath: `${home}/init`,
      terminal: spec.process.terminal === true,
      stdin,
      stdout: true,
      stderr: true,
      owner: mappedUser(spec),
    });
  } catch (error) {
    // it has nothing to delete, unless what it made was not let go; the first error is the one to be told
    await crunDelete(id).catch(() => undefined);
    removeCgroup(cgroup);
    throw error;
  }
}

/** Whose namespace it shares is known by name; where that is can change until now. */
async function writeSpec(container: Container): Promise<void> {
  const { spec } = container;
  const namespaces = await withPidNamespace(spec.linux.namespaces ?? [], (id) => {
    const { pid, exit } = getContainer(id);
    if (pid === undefined || exit) throw new CaissonError('failed_precondition', `container ${id} is not running`);
    return pid;
  });
  writeSmall(containerPaths(container.id).spec, JSON.stringify({ ...spec, linux: { ...spec.linux, namespaces } }));
}

/** `resources`: OCI's `linux.resources` as JSON; what is left out stays as it is. */
export async function updateContainer(id: string, resources: string): Promise<void> {
  const container = getContainer(id);
  const { home } = containerPaths(id);
  if (container.exit) throw new CaissonError('failed_precondition', `container ${id} has ended`);
  const pages = hugePageLimits(JSON.parse(resources) as Record<string, object>);
  if (pages) await keepHugePages(id, pages);
  if (container.pid !== undefined) return await crunUpdate(id, resources, `${home}/update`);
  // it has no cgroup yet: crun reads its limits when it starts
  container.spec = withResources(container.spec, resources);
}

function takeStreams(container: Container, streams: ProcessStreams): void {
  const { output } = container;
  if (streams.terminal !== undefined) {
    container.terminal = new Terminal(streams.terminal);
    output.add('STDOUT', container.terminal.socket);
    if (container.stdin) container.input = container.terminal;
  }
  if (streams.stdin !== undefined) container.input = pipeInput(streams.stdin);
  if (streams.stdout !== undefined) output.add('STDOUT', readerOf(streams.stdout));
  if (streams.stderr !== undefined) output.add('STDERR', readerOf(streams.stderr));
}

async function finish(container: Container, { code, signal }: ProcessEnd): Promise<void> {
  const { cgroup } = containerPaths(container.id);
  const oomKills = (await cgroupCounters(cgroup, 'memory.events')).get('oom_kill') ?? 0;
  // without a pid namespace of its own the first process leaves its children behind, and them its pipes
  await killCgroup(cgroup);
  container.output.finish();
  if (container.terminal === undefined) container.input?.end();
  // the host can let go of its volumes as soon as it hears of the end
  await releaseVolumes(container.id);
  await keepHugePages(container.id, []);
  const finishedAtNs = nowNs();
  container.exit = { code, signal, finishedAtNs, oomKilled: oomKills > 0 && code !== 0 };
  container.resolveExit(container.exit);
  for (const watcher of container.exitWatchers) watcher(container.exit);
}

const SIGKILL = 9;

/** Returns true when the container's first process has the default action for the signal: then the kernel drops it. */
export async function signalContainer(id: string, signal: number, all: boolean): Promise<boolean> {
  const container = getContainer(id);
  const { pid } = container;
  if (pid === undefined || container.exit) return false;
  const { cgroup } = containerPaths(id);
  if (all && signal === SIGKILL) {
    await killCgroup(cgroup);
    return false;
  }
  const ignored = signal !== SIGKILL && !(await handles(pid, signal));
  for (const target of all ? await cgroupProcesses(cgroup) : [pid]) kill(target, signal);
  return ignored;
}

/**
 * Signals whose action is the default never reach the first process of a pid namespace: pid_namespaces(7). A blocked one
 * waits for sigwait or signalfd, as small inits do it; one that is ignored on purpose says that there is something to
 * finish first: both get their time.
 */
async function handles(pid: number, signal: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const masks = [...status.matchAll(/^Sig(?:Cgt|Blk|Ign):\s*([0-9a-f]+)$/gm)].map(([, mask]) => BigInt(`0x${mask}`));
  const namespacePids = /^NSpid:\s*(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? [];
  if (masks.length === 0 || namespacePids.length < 2 || namespacePids.at(-1) !== '1') return true;
  return masks.some((mask) => ((mask >> BigInt(signal - 1)) & 1n) === 1n);
}

/** All processes of the container, its execs' among them. Killing works all the same: cgroups(7). */
export async function freezeContainer(id: string, frozen: boolean): Promise<void> {
  requireRunning(id);
  await setFrozen(containerPaths(id).cgroup, frozen);
}

/** Idempotent. */
export async function removeContainer(id: string): Promise<void> {
  const container = containers.get(id);
  if (!container) return;
  if (container.pid !== undefined) {
    await killCgroup(containerPaths(id).cgroup);
    if (!container.exit) await container.exited;
    await crunDelete(id);
  }
  container.output.close();
  await keepHugePages(id, []);
  await releaseVolumes(id);
  await unmountRootfs(id);
  forgetWritten(`${containerPaths(id).writable}/upper`);
  containers.delete(id);
}
