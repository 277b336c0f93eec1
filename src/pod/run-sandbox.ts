import { randomInt } from 'node:crypto';
import { hostname as hostHostname } from 'node:os';
import type { AgentClient, SandboxSettings } from '../agent/contracts.ts';
import { together } from '../lib/async.ts';
import { CaissonError, describeError, firstFailure } from '../lib/errors.ts';
import { newId } from '../lib/ids.ts';
import { annotate } from '../lib/trace.ts';
import type { PodNetwork, PodNetworkRequest, PortMapping } from '../network/contracts.ts';
import type { Vm, VmSpec } from '../vm/contracts.ts';
import type { PodContext } from './context.ts';
import type { PodSandboxConfig } from './contracts.ts';
import { hostsFile, resolvConf } from './dns.ts';
import { sandboxName } from './names.ts';
import { nowNs, type SandboxRecord } from './records.ts';
import { vmSize } from './sizing.ts';
import { goLive } from './supervise.ts';
import { validateSandbox, type ValidSandboxConfig } from './validate.ts';
import { parseBandwidth } from './bandwidth.ts';

const SCRATCH_SERIAL = 'scratch';
const DEFAULT_SHM_BYTES = 64 * 1024 * 1024;
const FIRST_CID = 3;
const MAX_CID = 0x7fff_0000;
const UID_RANGE = 65536;

/**
 * Reserves the name, makes the network, disk and VM of the pod, and returns its id when it is ready. A failure undoes
 * everything; what cannot be undone stays as a NOTREADY sandbox, for the kubelet to clean up.
 */
export async function runSandbox(
  context: PodContext,
  config: PodSandboxConfig,
  handler: string,
  signal: AbortSignal,
): Promise<string> {
  validateSandbox(config, handler);
  const id = newId();
  annotate({ sandboxId: id });
  const record = newRecord(context, config, handler);
  context.sandboxes.insert(id, sandboxName(config), record);
  const undo = new AsyncDisposableStack();
  try {
    const parts = await build(context, id, record, config, undo, signal);
    signal.throwIfAborted();
    context.sandboxes.update(id, { state: 'ready', vm: parts.vm.record, network: parts.network });
    goLive(context, id, parts.vm, parts.agent);
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

async function undoFailedRun(
  context: PodContext,
  id: string,
  undo: AsyncDisposableStack,
  error: unknown,
): Promise<void> {
  try {
    await undo.disposeAsync();
    context.sandboxes.delete(id);
  } catch (failure) {
    context.log.error({ err: failure, sandboxId: id }, 'a failed start could not be undone');
    context.sandboxes.observe(id, { state: 'notready', reason: `the start failed: ${describeError(error)}` });
  }
}

interface Parts {
  readonly vm: Vm;
  readonly agent: AgentClient;
  readonly network: PodNetwork;
}

/** Everything that takes time happens side by side; each step registers its undo before it begins. */
async function build(
  context: PodContext,
  id: string,
  record: SandboxRecord,
  config: PodSandboxConfig,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Parts> {
  const request = networkRequest(id, record, config);
  undo.defer(() => context.network.teardown(id));
  undo.defer(() => context.storage.removeScratch(id));
  const [netns, scratch] = await together(
    signal,
    (either) => context.network.prepare(request, either),
    (either) => context.storage.createScratch(id, record.uid, either),
  );
  const spec: VmSpec = {
    sandboxId: id,
    cid: record.cid,
    uid: record.uid,
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    // the guest takes the MAC of the CNI interface over when it is configured
    network: { ...netns, mac: '02:00:00:00:00:01' },
    disks: [{ serial: SCRATCH_SERIAL, path: scratch.path, format: scratch.format, readOnly: false }],
  };
  const [vm, network] = await together(
    signal,
    async (either) => undo.use(await context.vms.start(spec, either)),
    (either) => context.network.attach(request, netns, either),
  );
  const agent = undo.use(context.connectAgent(vm.agentSocket));
  await agent.configureSandbox(await settings(id, config, network), signal);
  return { vm, agent, network };
}

async function settings(id: string, config: PodSandboxConfig, network: PodNetwork): Promise<SandboxSettings> {
  const hostname = config.hostname || config.metadata?.name.slice(0, 63) || hostHostname();
  return {
    sandboxId: id,
    hostname,
    interface: network.interface,
    resolvConf: await resolvConf(config, network.dns),
    hosts: hostsFile(hostname, network.ips),
    sysctls: config.linux?.sysctls ?? {},
    scratchSerial: SCRATCH_SERIAL,
    shmSizeBytes: DEFAULT_SHM_BYTES,
  };
}

function networkRequest(id: string, record: SandboxRecord, config: PodSandboxConfig): PodNetworkRequest {
  const bandwidth = parseBandwidth(config.annotations);
  return {
    sandboxId: id,
    podName: record.metadata.name,
    podNamespace: record.metadata.namespace,
    podUid: record.metadata.uid,
    portMappings: config.port_mappings.filter(({ host_port }) => host_port > 0).map(portMapping),
    ...(bandwidth && { bandwidth }),
    tapUid: record.uid,
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

function newRecord(context: PodContext, config: ValidSandboxConfig, runtimeHandler: string): SandboxRecord {
  const { name, namespace, uid, attempt } = config.metadata;
  const cid = freeCid(context);
  return {
    version: 1,
    state: 'creating',
    reason: '',
    metadata: { name, namespace, uid, attempt },
    createdAt: nowNs(),
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler,
    logDirectory: config.log_directory,
    namespaceOptions: config.linux?.security_context?.namespace_options ?? null,
    cid,
    uid: vmUid(context, cid),
    ...vmSize(config, context.config.vm),
    vm: null,
    network: null,
    hasResources: true,
  };
}

/** Random, because vsock addresses are host-wide and other daemons have theirs; no two pods share a uid either. */
function freeCid(context: PodContext): number {
  const taken = new Set([...context.sandboxes.entries()].map(([, { uid }]) => uid));
  for (;;) {
    const cid = randomInt(FIRST_CID, MAX_CID);
    if (!taken.has(vmUid(context, cid))) return cid;
  }
}

const vmUid = (context: PodContext, cid: number): number => context.config.vm.uid_base + 1 + (cid % UID_RANGE);
