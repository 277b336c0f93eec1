import { together } from '../lib/async.ts';
import { CaissonError, describeError, firstFailure, isCaissonError } from '../lib/errors.ts';
import { annotate, traced } from '../lib/trace.ts';
import type { PodNetwork, PodNetworkRequest, PreparedNetns } from '../network/contracts.ts';
import type { VmSize } from '../vm/contracts.ts';
import type { PodContext } from './context.ts';
import { DENSE_HANDLER } from './contracts.ts';
import type { SandboxRecord } from './records.ts';
import { networkRequest, settings } from './run-sandbox.ts';
import { startVm, type PreparedVm } from './shell.ts';
import { grow, vmSize } from './sizing.ts';
import { releaseVm } from './stop-sandbox.ts';
import { goLive } from './supervise.ts';
import type { ValidSandboxConfig } from './validate.ts';

/**
 * Starts a sandbox that was stopped, or whose VM has ended, under its id and with the same addresses: those that it
 * still holds, or has asked for again. A failure leaves it as a stopped one, which can be started again.
 */
export async function startSandbox(context: PodContext, id: string, signal: AbortSignal): Promise<void> {
  await context.locks.run(id, async () => {
    const record = context.sandboxes.get(id);
    if (record.state === 'ready') return;
    const { config } = record;
    if (record.state !== 'notready') throw new CaissonError('failed_precondition', `sandbox ${id} is ${record.state}`);
    if (!config) {
      throw new CaissonError('failed_precondition', `sandbox ${id} was made by an earlier version of caisson`, {
        hint: 'remove it, and run it anew',
      });
    }
    annotate({ sandboxId: id });
    context.sandboxes.update(id, { state: 'starting', reason: '', hasResources: true });
    const undo = new AsyncDisposableStack();
    try {
      const { vm, agent, network, size } = await build(context, id, record, config, undo, signal);
      signal.throwIfAborted();
      context.sandboxes.update(id, { state: 'ready', vm: vm.record, network, size });
      goLive(context, id, vm, agent);
      undo.move();
    } catch (failure) {
      throw await undone(context, id, record, undo, firstFailure(failure));
    }
  });
}

async function undone(
  context: PodContext,
  id: string,
  { reason, metadata }: SandboxRecord,
  undo: AsyncDisposableStack,
  error: unknown,
): Promise<CaissonError> {
  try {
    await undo.disposeAsync();
    context.sandboxes.observe(id, { state: 'notready', reason, vm: null, hasResources: false });
  } catch (failure) {
    context.log.error({ err: failure, sandboxId: id }, 'a failed start could not be undone');
    context.sandboxes.observe(id, { state: 'notready', reason: `the start failed: ${describeError(error)}` });
  }
  const name = `${metadata.namespace}/${metadata.name}`;
  return new CaissonError(isCaissonError(error) ? error.code : 'internal', `pod ${name}: ${messageOf(error)}`, {
    cause: error,
    hint: isCaissonError(error) ? error.hint : undefined,
  });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function build(
  context: PodContext,
  id: string,
  record: SandboxRecord,
  config: ValidSandboxConfig,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
) {
  // these need no making before: they release whatever there is
  undo.defer(() => releaseVm(context, id, undefined));
  undo.defer(() => context.network.teardown(id));
  await releaseVm(context, id, context.liveSandboxes.get(id));
  const wanted = vmSize(record, [], context.vms.sizes);
  const cgroup = await newCgroup(context, id, config, wanted);
  const place = { dense: record.runtimeHandler === DENSE_HANDLER, cgroup: context.cgroups.directories(cgroup) };
  const identity = { id, cid: record.cid, uid: record.uid, ...place };
  const held = await heldNetwork(context, id, record);
  const netns: PreparedNetns = held ?? (await context.network.prepare({ sandboxId: id, tapUid: record.uid }, signal));
  const scratch = await context.storage.createScratch(id, record.uid, signal);
  const request = networkRequest(identity, config);
  const [prepared, network] = await together(
    signal,
    (either): Promise<PreparedVm> => startVm(context, identity, { netns, scratch }, undo, either),
    async (either) => held ?? attachAgain(context, request, record, netns, either),
  );
  const [size] = await together(
    signal,
    (either) => traced('vm: grow', () => grow(prepared, context.vms.sizes.least, wanted, either)),
    async (either) => prepared.agent.configureSandbox(await settings(id, config, network), either),
  );
  return { ...prepared, network, size };
}

/** In the record before it is made, so that it is released with the VM. */
async function newCgroup(
  context: PodContext,
  id: string,
  { linux }: ValidSandboxConfig,
  { memoryMib }: VmSize,
): Promise<string> {
  const cgroup = `${await context.cgroups.place(linux?.cgroup_parent ?? '', memoryMib)}/caisson-${id}`;
  context.sandboxes.update(id, { cgroup });
  await context.cgroups.make(cgroup);
  return cgroup;
}

/** Of a pod whose VM has ended; a stopped one's has been given back. */
async function heldNetwork(context: PodContext, id: string, record: SandboxRecord): Promise<PodNetwork | undefined> {
  if (record.hasResources && record.network && (await context.network.attached(id))) return record.network;
  // of one that was held, what is left over
  await context.network.teardown(id);
  return undefined;
}

async function attachAgain(
  context: PodContext,
  request: PodNetworkRequest,
  { network: before }: SandboxRecord,
  netns: PreparedNetns,
  signal: AbortSignal,
): Promise<PodNetwork> {
  const addresses = before?.interface.addresses.map(({ cidr }) => cidr) ?? [];
  const network = await context.network.attach({ ...request, addresses }, netns, signal);
  const missing = before?.ips.filter((ip) => !network.ips.includes(ip)) ?? [];
  if (missing.length === 0) return network;
  throw new CaissonError(
    'unavailable',
    `the network gave ${network.ips.join(' and ')} instead of ${missing.join(' and ')}`,
    { hint: "its address plugin takes no wishes, or the address is another pod's now: make the pod anew" },
  );
}
