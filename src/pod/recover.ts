import type { AgentClient } from '../agent/contracts.ts';
import { describeError } from '../lib/errors.ts';
import type { PodContext } from './context.ts';
import { ContainerLog } from './log-writer.ts';
import { nowNs, type SandboxRecord } from './records.ts';
import { followContainer } from './follow-container.ts';
import { endContainers, goLive, recordExit } from './supervise.ts';

const AGENT_ANSWER_MS = 15_000;

/**
 * Takes over what an earlier daemon left: running VMs with their containers, and the halves of what it was making.
 * What cannot be taken over becomes NOTREADY, for the kubelet to clean up.
 */
export async function recover(context: PodContext): Promise<void> {
  for (const [id, record] of [...context.containers.entries()])
    if (record.state === 'creating') context.containers.delete(id);
  for (const [id, record] of context.containers.entries()) holdImage(context, id, record.imageId);
  await Promise.all([...context.sandboxes.entries()].map(([id, record]) => recoverSandbox(context, id, record)));
}

async function recoverSandbox(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  try {
    if (record.state === 'creating') await undoHalfMade(context, id, record);
    else if (record.state === 'ready') await adopt(context, id, record);
    else endContainers(context, id, 'Error', 'the pod was stopped'); // perhaps cut off in the middle
  } catch (error) {
    context.log.error({ err: error, sandboxId: id }, 'a sandbox could not be recovered');
    context.sandboxes.observe(id, { state: 'notready', reason: `not recovered: ${describeError(error)}` });
    endContainers(context, id, 'Error', 'the pod was lost when the runtime was restarted');
  }
}

async function undoHalfMade(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  await context.vms.discard(id, record.vm ?? undefined);
  await context.storage.removeScratch(id);
  await context.network.teardown(id);
  context.sandboxes.delete(id);
}

async function adopt(context: PodContext, id: string, record: SandboxRecord): Promise<void> {
  const vm = record.vm && (await context.vms.adopt(id, record.vm));
  if (!vm) {
    context.sandboxes.observe(id, { state: 'notready', reason: 'VMDied: it ended while the runtime was down' });
    return endContainers(context, id, 'VMDied', 'the VM ended while the runtime was down');
  }
  const agent = context.connectAgent(vm.agentSocket);
  goLive(context, id, vm, agent);
  const { containers } = await agent.info(AbortSignal.timeout(AGENT_ANSWER_MS));
  for (const { id: containerId, started, exit } of containers) {
    if (!context.containers.has(containerId)) {
      await agent.removeContainer(containerId); // of a create that the earlier daemon did not finish
      continue;
    }
    const { state } = context.containers.get(containerId);
    if (!started || (state !== 'running' && state !== 'created')) continue;
    // it may have been started without the earlier daemon having noted it down
    if (state === 'created') context.containers.observe(containerId, { state: 'running', startedAt: nowNs() });
    await resume(context, containerId, agent);
    if (exit) await context.liveContainers.get(containerId)?.ended;
  }
  markLost(context, id, new Set(containers.map((container) => container.id)));
}

async function resume(context: PodContext, id: string, agent: AgentClient): Promise<void> {
  const { logPath } = context.containers.get(id);
  followContainer(context, id, agent, logPath === '' ? undefined : await ContainerLog.resume(logPath));
}

function markLost(context: PodContext, sandboxId: string, known: ReadonlySet<string>): void {
  for (const [id, record] of [...context.containers.entries()]) {
    if (record.sandboxId !== sandboxId || known.has(id)) continue;
    if (record.state !== 'running' && record.state !== 'created') continue;
    recordExit(context, id, { code: 255, finishedAtNs: '0', oomKilled: false });
  }
}

function holdImage(context: PodContext, id: string, imageId: string): void {
  try {
    context.imageHolds.set(id, context.images.hold(imageId));
  } catch (error) {
    context.log.warn({ err: error, containerId: id }, 'the image of a container is gone');
  }
}
