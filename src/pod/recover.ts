import type { AgentClient } from '../agent/contracts.ts';
import type { VmRecord } from '../vm/contracts.ts';
import { withTimeout } from '../lib/async.ts';
import { CaissonError, describeError } from '../lib/errors.ts';
import type { LiveContainer, LiveSandbox, PodContext } from './context.ts';
import { holdImages } from './layers.ts';
import { ContainerLog } from './log-writer.ts';
import { nowNs, type ContainerRecord, type SandboxRecord } from './records.ts';
import { followContainer } from './follow-container.ts';
import { removeCgroup } from './stop-sandbox.ts';
import { endContainers, goLive, recordExit, standStill } from './supervise.ts';
import { followVolumes, releaseVolumes, watchShare } from './volumes.ts';

const AGENT_ANSWER_MS = 15_000;
/** for a guest to tell all of containers that have ended, and to remove leftovers: then the daemon goes on without */
const SETTLE_MS = 10_000;

/**
 * Takes over what an earlier daemon left: running VMs with their containers, and the halves of what it was making.
 * What cannot be taken over becomes NOTREADY, for the kubelet to clean up.
 */
export async function recover(context: PodContext): Promise<void> {
  for (const [id, record] of [...context.containers.entries()])
    if (record.state === 'creating') context.containers.delete(id);
  for (const [id, record] of context.containers.entries()) holdImagesOf(context, id, record);
  await Promise.all(context.spares.entries().map(([id]) => discardSpare(context, id)));
  await Promise.all([...context.sandboxes.entries()].map(([id, record]) => recoverSandbox(context, id, record)));
}

async function recoverSandbox(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  try {
    if (record.state === 'creating') await undoHalfMade(context, id, record);
    else if (record.state === 'starting') await undoHalfStarted(context, id, record);
    else if (record.state === 'ready') await adopt(context, id, record);
    else endContainers(context, id, 'Error', 'the pod was stopped'); // perhaps cut off in the middle
  } catch (error) {
    context.log.error({ err: error, sandboxId: id }, 'a sandbox could not be recovered');
    context.sandboxes.observe(id, { state: 'notready', reason: `not recovered: ${describeError(error)}` });
    endContainers(context, id, 'Error', 'the pod was lost when the runtime was restarted');
  }
}

/** Of one that had just become a sandbox only the record is left over. */
async function discardSpare(context: PodContext, id: string): Promise<void> {
  try {
    if (!context.sandboxes.has(id)) await release(context, id, undefined);
    context.spares.delete(id);
  } catch (error) {
    context.log.error({ err: error, sandboxId: id }, 'a waiting VM of the daemon before cannot be removed');
  }
}

async function undoHalfMade(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  await release(context, id, record.vm ?? undefined);
  await removeCgroup(context, record);
  context.sandboxes.delete(id);
}

/** It was stopped, and is again. */
async function undoHalfStarted(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  await release(context, id, record.vm ?? undefined);
  await removeCgroup(context, record);
  context.sandboxes.observe(id, { state: 'notready', reason: 'Stopped', vm: null, hasResources: false });
}

async function release(context: PodContext, id: string, vm: VmRecord | undefined): Promise<void> {
  await context.vms.discard(id, vm);
  await context.storage.removeScratch(id);
  await context.volumes.discard(id);
  await context.network.teardown(id);
}

async function adopt(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  const vm = record.vm && (await context.vms.adopt(id, record.vm));
  if (!vm) {
    context.sandboxes.observe(id, { state: 'notready', reason: 'VMDied: it ended while the runtime was down' });
    return endContainers(context, id, 'VMDied', 'the VM ended while the runtime was down');
  }
  const agent = context.connectAgent(vm.agentSocket);
  const live = goLive(context, id, vm, agent);
  await adoptShare(context, id, live);
  if (record.paused) {
    standStill(live);
    live.unknown = true;
  } else await askContainers(context, id, live);
}

/** Takes the containers over that the guest has: their output, their exits. */
export async function askContainers(context: PodContext, id: string, live: LiveSandbox): Promise<void> {
  const { agent } = live;
  const { containers } = await agent.info(AbortSignal.timeout(AGENT_ANSWER_MS));
  // a hostile guest may name one twice, or another pod's
  const told = new Map(containers.map((container) => [container.id, container]));
  const settling: Promise<void>[] = [];
  for (const { id: containerId, started, exit } of told.values()) {
    if (!isOf(context, id, containerId)) {
      settling.push(removeLeftover(context, agent, containerId));
      continue;
    }
    const { state } = context.containers.get(containerId);
    if (!started || (state !== 'running' && state !== 'created')) continue;
    // it may have been started without the earlier daemon having noted it down
    if (state === 'created') context.containers.observe(containerId, { state: 'running', startedAt: nowNs() });
    const { ended } = await resume(context, containerId, agent);
    if (exit) settling.push(ended);
  }
  await withTimeout(Promise.all(settling), SETTLE_MS, "the guest's account of its containers").catch((error: unknown) =>
    context.log.warn({ err: error, sandboxId: id }, 'going on without the rest'),
  );
  live.unknown = false;
  await sortVolumes(context, id);
  markLost(context, id, new Set(told.keys()));
}

const isOf = ({ containers }: PodContext, sandboxId: string, containerId: string): boolean =>
  containers.has(containerId) && containers.get(containerId).sandboxId === sandboxId;

/** Of a create that the earlier daemon did not finish. Never rejects. */
async function removeLeftover(context: PodContext, agent: AgentClient, containerId: string): Promise<void> {
  await agent.removeContainer(containerId).catch((error: unknown) => {
    context.log.warn({ err: error, containerId }, 'what is left of a container stays in its VM');
  });
}

/** A pod whose virtiofsd has ended while nobody looked hangs at its volumes. */
async function adoptShare(context: PodContext, id: string, live: LiveSandbox): Promise<void> {
  const share = await context.volumes.adopt(id);
  if (share) {
    live.share = Promise.resolve(share);
    watchShare(context, id, live, share);
  } else if (await context.volumes.exists(id)) {
    throw new CaissonError('unavailable', 'virtiofsd has ended while the runtime was down: the volumes are lost');
  }
}

/** Lets go of those of a create that the earlier daemon did not finish, and of containers that have ended since. */
async function sortVolumes(context: PodContext, id: string): Promise<void> {
  const live = context.liveSandboxes.get(id);
  const share = await live?.share;
  for (const containerId of (await share?.containers()) ?? []) {
    const record = context.containers.has(containerId) ? context.containers.get(containerId) : undefined;
    if (record?.state !== 'running' && record?.state !== 'created') await releaseVolumes(context, id, containerId);
    else if (live) await followVolumes(context, id, live, containerId);
  }
}

async function resume(context: PodContext, id: string, agent: AgentClient): Promise<LiveContainer> {
  const { logPath } = context.containers.get(id);
  return followContainer(context, id, agent, logPath === '' ? undefined : await ContainerLog.resume(logPath));
}

function markLost(context: PodContext, sandboxId: string, known: ReadonlySet<string>): void {
  for (const [id, record] of [...context.containers.entries()]) {
    if (record.sandboxId !== sandboxId || known.has(id)) continue;
    if (record.state !== 'running' && record.state !== 'created') continue;
    recordExit(context, id, { code: 255, finishedAtNs: '0', oomKilled: false });
  }
}

function holdImagesOf(context: PodContext, id: string, record: ContainerRecord): void {
  const inVolumes = record.mounts.flatMap(({ image }) =>
    image?.image ? (context.images.find(image.image) ?? []) : [],
  );
  try {
    context.imageHolds.set(id, holdImages(context, [{ id: record.imageId }, ...inVolumes]));
  } catch (error) {
    context.log.warn({ err: error, containerId: id }, 'the image of a container is gone');
  }
}
