import { join } from 'node:path';
import { KeyedMutex } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import { exists } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import { traced } from '../lib/trace.ts';
import type { Config } from '../config/schema.ts';
import { openCache } from './cni/cache.ts';
import type { CacheLookup, ResultCache } from './cni/cache.ts';
import { addChain, checkChain, delChain } from './cni/chain.ts';
import { startMonitor } from './cni/monitor.ts';
import type { CniMonitor } from './cni/monitor.ts';
import { capabilityArgs, cniArgs, withAddresses } from './cni/request.ts';
import { hostInterfaces, podAddresses, resultDns } from './cni/result.ts';
import type { Attachment, CniResult, PluginRunner } from './cni/types.ts';
import type { NetworkPort, PodNetwork, PodNetworkRequest, PreparedNetns } from './contracts.ts';
import { readCounters } from './counters.ts';
import { hostGateways } from './gateway.ts';
import { guestAddresses, guestRoutes } from './guest-interface.ts';
import { readLink } from './link.ts';
import { ipInNetns, makeNetns, netnsPathOf, removeNetns, setUpNetnsDirectory, TAP } from './netns.ts';
import { joinToTap } from './tc.ts';

export interface NetworkOptions {
  readonly config: Config['network'];
  /** holds `cni/<sandbox id>.json`; should survive a reboot, or addresses reserved before it are never released */
  readonly stateDir: string;
  readonly log: Logger;
  /** the node's pod CIDRs, by commas, for plugins with the capability `ipRanges`; empty while unknown */
  readonly podCidr?: () => string;
}

interface Context {
  readonly runner: PluginRunner;
  readonly cache: ResultCache;
  readonly monitor: CniMonitor;
  readonly log: Logger;
  readonly podCidr: () => string;
}

const INTERFACE = 'eth0';
/** MTU of a new tap */
const TAP_MTU = 1500;

/** Needs root and iproute2: throws `failed_precondition` without. */
export async function openNetwork(options: NetworkOptions): Promise<NetworkPort & AsyncDisposable> {
  const { config, log } = options;
  const runner = { binDirs: config.bin_dirs, timeoutMs: config.plugin_timeout_s * 1000 };
  await setUpNetnsDirectory();
  const monitor = await startMonitor(config.conf_dir, runner, log);
  const cache = await openCache(join(options.stateDir, 'cni'));
  const context: Context = { runner, cache, monitor, log, podCidr: options.podCidr ?? (() => '') };
  const mutex = new KeyedMutex();
  return {
    status: () => monitor.status(),
    prepare: ({ sandboxId, tapUid }, signal) =>
      traced('network: netns and tap', () => mutex.run(sandboxId, () => makeNetns(checkId(sandboxId), tapUid, signal))),
    attach: (request, netns, signal) =>
      traced('network: attach', () => mutex.run(request.sandboxId, () => attach(context, request, netns, signal))),
    attached: (sandboxId) => mutex.run(sandboxId, () => attached(context, checkId(sandboxId))),
    check: (sandboxId, signal) => mutex.run(sandboxId, () => check(context, sandboxId, signal)),
    counters: (pid) => readCounters(pid, INTERFACE),
    teardown: (sandboxId) =>
      traced('network: teardown', () => mutex.run(sandboxId, () => teardown(context, checkId(sandboxId)))),
    [Symbol.asyncDispose]: async () => monitor[Symbol.dispose](),
  };
}

async function attach(
  context: Context,
  request: PodNetworkRequest,
  netns: PreparedNetns,
  signal: AbortSignal,
): Promise<PodNetwork> {
  const { sandboxId } = request;
  const attachment = await attachmentOf(context, request, netns);
  const result = await add(context, attachment, signal);
  const tasks = [
    readLink(sandboxId, INTERFACE, signal),
    joinToTap(sandboxId, INTERFACE, signal),
    context.cache.write(sandboxId, { attachment, result }),
  ] as const;
  await Promise.allSettled(tasks); // whoever undoes them meets nothing half-made
  const [link] = await Promise.all(tasks);
  if (link.mtu !== TAP_MTU) await ipInNetns(sandboxId, [`link set dev ${TAP} mtu ${link.mtu}`], signal);
  const fromResult = podAddresses(result, INTERFACE);
  const addresses = guestAddresses(link, fromResult);
  const routes = guestRoutes(link);
  if (addresses.length === 0)
    throw new CaissonError('unavailable', `CNI network ${attachment.network.name} gave no address`);
  const gateways = new Set([...addresses, ...routes].flatMap(({ gateway }) => gateway ?? []));
  const neighbours = await hostGateways([...gateways], hostInterfaces(result), link.peerIndex);
  return {
    ...netns,
    interface: {
      name: INTERFACE,
      mac: link.mac,
      mtu: link.mtu,
      addresses,
      routes,
      neighbours: [...link.permanentNeighbours, ...neighbours],
    },
    ips: addresses.map(({ cidr }) => cidr.slice(0, cidr.indexOf('/'))),
    dns: resultDns(result),
  };
}

async function attached({ cache }: Context, sandboxId: string): Promise<boolean> {
  const found = await cache.read(sandboxId);
  if (found.kind !== 'entry' || !found.entry.result || !(await exists(netnsPathOf(sandboxId)))) return false;
  try {
    await ipInNetns(sandboxId, [`link show dev ${TAP}`, `link show dev ${INTERFACE}`]);
    return true;
  } catch {
    return false; // one of them is gone, as after a reboot of the node
  }
}

async function attachmentOf(context: Context, request: PodNetworkRequest, netns: PreparedNetns): Promise<Attachment> {
  return {
    network: withAddresses(await context.monitor.network(), request.addresses ?? []),
    containerId: checkId(request.sandboxId),
    netnsPath: netns.netnsPath,
    ifName: INTERFACE,
    args: cniArgs(request),
    capabilityArgs: capabilityArgs(request, context.podCidr()),
  };
}

/** ADD, on record before it begins: whatever happens to the daemon meanwhile, `teardown` knows what to undo. */
async function add(context: Context, attachment: Attachment, signal: AbortSignal): Promise<CniResult> {
  const { cache, runner, log } = context;
  await cache.write(attachment.containerId, { attachment });
  let cleaned = true;
  try {
    return await addChain(runner, attachment, signal, (error) => {
      cleaned = false;
      log.warn(
        { err: error, sandboxId: attachment.containerId },
        'CNI DEL after a failed ADD failed too; left to teardown',
      );
    });
  } catch (error) {
    if (cleaned) await cache.remove(attachment.containerId);
    throw error;
  }
}

async function check({ cache, runner }: Context, sandboxId: string, signal: AbortSignal): Promise<void> {
  const found = await cache.read(checkId(sandboxId));
  if (found.kind !== 'entry' || !found.entry.result) {
    throw new CaissonError(
      'failed_precondition',
      `sandbox ${sandboxId} has no CNI result: its network was never attached`,
    );
  }
  await checkChain(runner, found.entry.attachment, found.entry.result, signal);
}

/**
 * The netns goes even if DEL fails: the pod's wires must not outlive it, and plugins have to take DEL without a netns.
 * The cache entry then stays, so that the kubelet's next StopPodSandbox runs DEL again.
 */
async function teardown(context: Context, sandboxId: string): Promise<void> {
  const found = await context.cache.read(sandboxId);
  const deleted = await Promise.allSettled([del(context, sandboxId, found)]);
  await removeNetns(sandboxId);
  if (deleted[0].status === 'rejected') throw deleted[0].reason;
  if (found.kind !== 'none') await context.cache.remove(sandboxId);
}

async function del(context: Context, sandboxId: string, found: CacheLookup): Promise<void> {
  if (found.kind === 'none') return;
  const path = netnsPathOf(sandboxId);
  const netnsPath = (await exists(path)) ? path : '';
  if (found.kind === 'entry') {
    const { attachment, result } = found.entry;
    return delChain(context.runner, { ...attachment, netnsPath }, result);
  }
  context.log.warn({ sandboxId }, 'the cached CNI result is unreadable: DEL with the configuration in force');
  const network = await context.monitor.network();
  const args = `IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=${sandboxId}`;
  return delChain(context.runner, {
    network,
    containerId: sandboxId,
    netnsPath,
    ifName: INTERFACE,
    args,
    capabilityArgs: {},
  });
}

/** The id becomes part of file names. */
function checkId(sandboxId: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(sandboxId)) return sandboxId;
  throw new CaissonError('invalid_argument', `sandbox id ${JSON.stringify(sandboxId)} is not letters and digits`);
}
