import { hostname as hostHostname } from 'node:os';
import type { SandboxSettings } from '../agent/contracts.ts';
import { together } from '../lib/async.ts';
import { CaissonError, describeError, firstFailure } from '../lib/errors.ts';
import { annotate, traced } from '../lib/trace.ts';
import type { PodNetwork, PodNetworkRequest, PortMapping } from '../network/contracts.ts';
import type { VmSize } from '../vm/contracts.ts';
import { parseBandwidth } from './bandwidth.ts';
import { syncClock } from './clock.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import { DENSE_HANDLER, type PodSandboxConfig } from './contracts.ts';
import { hostsFile, resolvConf } from './dns.ts';
import { sandboxName } from './names.ts';
import { nowNs, type SandboxRecord } from './records.ts';
import { makeGround, newIdentity, startVm, type PreparedVm, type Shell, type ShellIdentity } from './shell.ts';
import { grow, vmSize } from './sizing.ts';
import { goLive } from './supervise.ts';
import { userNamespace } from './user-namespace.ts';
import { validateSandbox, type ValidSandboxConfig } from './validate.ts';

const CLOCK_TIMEOUT_MS = 30_000;
const DEFAULT_SHM_BYTES = 64 * 1024 * 1024;

/**
 * Reserves the name, makes the network, disk and VM of the pod, or takes a VM that waits for one, and returns its id
 * when it is ready. A failure undoes everything; what cannot be undone stays as a NOTREADY sandbox, for the kubelet to
 * clean up.
 */
export async function runSandbox(
  context: PodContext,
  takeSpare: () => Shell | undefined,
  config: PodSandboxConfig,
  handler: string,
  signal: AbortSignal,
): Promise<string> {
  validateSandbox(config, handler);
  const size = vmSize(asked(config), [], context.vms.sizes);
  context.sandboxes.requireFree(sandboxName(config));
  const cgroupParent = await context.cgroups.place(config.linux?.cgroup_parent ?? '', size.memoryMib);
  const pod: Pod = { config, handler, size, cgroupParent };
  // those that wait have copied their memory
  const isPrivate = context.vms.memoryOf({ dense: pod.handler === DENSE_HANDLER }).kind === 'private';
  const spare = isPrivate ? undefined : takeSpare();
  if (!spare) return await runIn(context, undefined, pod, signal);
  let ended = false;
  void spare.vm.exited.then(() => (ended = true));
  try {
    return await runIn(context, spare, pod, signal);
  } catch (error) {
    if (!ended || signal.aborted) throw error;
    context.log.warn(
      { err: error, sandboxId: spare.identity.id },
      'a waiting VM ended as it was taken: trying another',
    );
    return await runIn(context, undefined, pod, signal);
  }
}

interface Pod {
  readonly config: ValidSandboxConfig;
  readonly handler: string;
  /** what its VM needs */
  readonly size: VmSize;
  readonly cgroupParent: string;
}

async function runIn(context: PodContext, spare: Shell | undefined, pod: Pod, signal: AbortSignal): Promise<string> {
  const { config } = pod;
  const identity = spare?.identity ?? newIdentity(context);
  const { id } = identity;
  annotate({ sandboxId: id });
  const cgroup = `${pod.cgroupParent}/caisson-${id}`;
  const undo = new AsyncDisposableStack();
  // the last to go: only then is it empty
  undo.defer(() => context.cgroups.remove(cgroup));
  if (spare) ownSpare(context, spare, undo);
  try {
    context.sandboxes.insert(id, sandboxName(config), newRecord(context, pod, identity, cgroup));
    context.spares.delete(id);
    const { vm, agent, network, size } = await build(context, identity, spare, pod, cgroup, undo, signal);
    signal.throwIfAborted();
    context.sandboxes.update(id, { state: 'ready', vm: vm.record, network, size });
    const live = goLive(context, id, vm, agent);
    if (!spare) setClock(context, id, live);
    undo.move();
    return id;
  } catch (failure) {
    const error = firstFailure(failure);
    await undoFailedRun(context, id, undo, error);
    const name = `${config.metadata.namespace}/${config.metadata.name}`;
    const code = error instanceof CaissonError ? error.code : 'internal';
    const hint = error instanceof CaissonError ? error.hint : undefined;
    const words = error instanceof Error ? error.message : String(error);
    throw new CaissonError(code, `pod ${name} cannot start: ${words}`, { cause: error, hint });
  }
}

/** That of a VM from the pool has been set while it waited. */
function setClock(context: PodContext, id: string, live: LiveSandbox): void {
  syncClock(live, true, AbortSignal.timeout(CLOCK_TIMEOUT_MS)).catch((error: unknown) => {
    context.log.debug({ err: error, sandboxId: id }, "the pod's clock is only about right for now");
  });
}

async function undoFailedRun(
  context: PodContext,
  id: string,
  undo: AsyncDisposableStack,
  error: unknown,
): Promise<void> {
  try {
    await undo.disposeAsync();
    context.sandboxes.delete(id);
    context.spares.delete(id); // it is there still when the name was taken
  } catch (failure) {
    context.log.error({ err: failure, sandboxId: id }, 'a failed start could not be undone');
    if (context.sandboxes.has(id))
      context.sandboxes.observe(id, { state: 'notready', reason: `the start failed: ${describeError(error)}` });
  }
}

interface Built extends PreparedVm {
  readonly network: PodNetwork;
  readonly size: VmSize;
}

/** Everything that takes time happens side by side; each step registers its undo before it begins. */
async function build(
  context: PodContext,
  identity: ShellIdentity,
  spare: Shell | undefined,
  { config, handler, size: wanted }: Pod,
  cgroup: string,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Built> {
  const { id } = identity;
  const request = networkRequest(identity, config);
  const { least } = context.vms.sizes;
  const { vm, agent, network } = spare
    ? await claim(context, spare, request, cgroup, signal)
    : await startShell(context, identity, { dense: handler === DENSE_HANDLER, cgroup }, request, undo, signal);
  const [size] = await together(
    signal,
    (either) => traced('vm: grow', () => grow({ vm, agent }, least, wanted, either)),
    async (either) => agent.configureSandbox(await settings(id, config, network), either),
  );
  return { vm, agent, network, size };
}

/** What a VM that waited has written before does not count as its pod's memory, only what it writes from now on. */
async function claim(
  context: PodContext,
  spare: Shell,
  request: PodNetworkRequest,
  cgroup: string,
  signal: AbortSignal,
): Promise<PreparedVm & { readonly network: PodNetwork }> {
  const { vm, agent, netns } = spare;
  const [network] = await together(
    signal,
    (either) => context.network.attach(request, netns, either),
    async () => {
      await context.cgroups.make(cgroup);
      await context.cgroups.enter(cgroup, [vm.record, ...vm.record.helperPids]);
    },
  );
  return { vm, agent, network };
}

async function startShell(
  context: PodContext,
  identity: ShellIdentity,
  { dense, cgroup }: { readonly dense: boolean; readonly cgroup: string },
  request: PodNetworkRequest,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<PreparedVm & { readonly network: PodNetwork }> {
  await context.cgroups.make(cgroup);
  const shell = { ...identity, dense, cgroup: context.cgroups.directories(cgroup) };
  const ground = await makeGround(context, identity, undo, signal);
  const [prepared, network] = await together(
    signal,
    (either) => startVm(context, shell, ground, undo, either),
    (either) => context.network.attach(request, ground.netns, either),
  );
  return { ...prepared, network };
}

/** From now on its parts are undone with the pod; it may use the processors like every other one. */
function ownSpare(context: PodContext, { identity, vm, agent }: Shell, undo: AsyncDisposableStack): void {
  const { id } = identity;
  undo.defer(() => context.network.teardown(id));
  undo.defer(() => context.storage.removeScratch(id));
  undo.use(vm);
  undo.use(agent);
  vm.hurry().catch((error: unknown) => {
    context.log.warn({ err: error, sandboxId: id }, 'a VM from the pool keeps its low priority');
  });
}

export async function settings(id: string, config: PodSandboxConfig, network: PodNetwork): Promise<SandboxSettings> {
  const hostname = config.hostname || config.metadata?.name.slice(0, 63) || hostHostname();
  return {
    sandboxId: id,
    hostname,
    interface: network.interface,
    resolvConf: await resolvConf(config, network.dns),
    hosts: hostsFile(hostname, network.ips),
    sysctls: { ...mappedSysctls(config), ...config.linux?.sysctls },
    shmSizeBytes: DEFAULT_SHM_BYTES,
  };
}

/** The VM's network is not owned by the pod's user namespace, so its root has no rights there: these take their place. */
function mappedSysctls(config: PodSandboxConfig): Record<string, string> {
  if (!userNamespace(config.linux?.security_context?.namespace_options)) return {};
  return { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' };
}

export function networkRequest({ id, uid }: ShellIdentity, config: ValidSandboxConfig): PodNetworkRequest {
  const bandwidth = parseBandwidth(config.annotations);
  return {
    sandboxId: id,
    podName: config.metadata.name,
    podNamespace: config.metadata.namespace,
    podUid: config.metadata.uid,
    portMappings: config.port_mappings.filter(({ host_port }) => host_port > 0).map(portMapping),
    ...(bandwidth && { bandwidth }),
    tapUid: uid,
  };
}

function portMapping(mapping: PodSandboxConfig['port_mappings'][number]): PortMapping {
  const protocol = mapping.protocol.toLowerCase();
  return {
    protocol: protocol === 'udp' || protocol === 'sctp' ? protocol : 'tcp',
    containerPort: mapping.container_port,
    hostPort: mapping.host_port,
    hostIp: mapping.host_ip,
  };
}

/** What the pod as a whole asks of its VM. */
const asked = ({ linux }: PodSandboxConfig): Pick<SandboxRecord, 'resources' | 'overhead'> => ({
  resources: linux?.resources ?? null,
  overhead: linux?.overhead ?? null,
});

function newRecord(
  context: PodContext,
  { config, handler }: Pod,
  { cid, uid }: ShellIdentity,
  cgroup: string,
): SandboxRecord {
  const { name, namespace, uid: podUid, attempt } = config.metadata;
  return {
    version: 1,
    state: 'creating',
    reason: '',
    metadata: { name, namespace, uid: podUid, attempt },
    createdAt: nowNs(),
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: handler,
    logDirectory: config.log_directory,
    namespaceOptions: config.linux?.security_context?.namespace_options ?? null,
    config,
    cid,
    uid,
    ...asked(config),
    size: context.vms.sizes.least,
    vm: null,
    cgroup,
    network: null,
    hasResources: true,
  };
}
