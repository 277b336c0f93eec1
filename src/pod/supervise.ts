import type { AgentClient, AgentExit } from '../agent/contracts.ts';
import { withTimeout } from '../lib/async.ts';
import { describeError } from '../lib/errors.ts';
import type { Vm } from '../vm/contracts.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import type { ContainerLog } from './log-writer.ts';
import { nowNs } from './records.ts';

const KILLED_EXIT_CODE = 137;
/** how long the last output of an ended container is waited for */
const DRAIN_MS = 5000;

/** From now on the sandbox is served; when its VM ends by itself, it and its containers are told so. */
export function goLive(context: PodContext, id: string, vm: Vm, agent: AgentClient): LiveSandbox {
  const live: LiveSandbox = { vm, agent, stopping: false };
  context.liveSandboxes.set(id, live);
  void vm.exited.then(({ reason }) => {
    if (!live.stopping && context.liveSandboxes.get(id) === live) vmDied(context, id, reason);
  });
  return live;
}

function vmDied(context: PodContext, id: string, reason: string): void {
  context.log.error({ sandboxId: id, reason }, 'the VM of a pod has ended');
  context.sandboxes.update(id, { state: 'notready', reason: `VMDied: ${reason}` });
  endContainers(context, id, 'VMDied', reason);
}

/** Marks every container of a sandbox whose VM is gone as exited. */
export function endContainers(context: PodContext, sandboxId: string, reason: string, message: string): void {
  for (const [id, record] of [...context.containers.entries()]) {
    if (record.sandboxId !== sandboxId) continue;
    if (record.state === 'running' || record.state === 'unknown' || record.state === 'created') {
      const finishedAt = record.state === 'created' ? record.finishedAt : nowNs();
      context.containers.update(id, { state: 'exited', finishedAt, exitCode: KILLED_EXIT_CODE, reason, message });
    }
  }
}

/** Carries a started container's output to its log and its exit to the store, in this order. */
export function superviseContainer(
  context: PodContext,
  id: string,
  agent: AgentClient,
  log: ContainerLog | undefined,
): void {
  const written = agent.output(id, async ({ stream, data, timeNs }) => {
    if (log) await log.write(stream, data, timeNs);
  });
  const ended = follow(context, id, agent, log, written).finally(() => context.liveContainers.delete(id));
  context.liveContainers.set(id, { log, ended });
}

async function follow(
  context: PodContext,
  id: string,
  agent: AgentClient,
  log: ContainerLog | undefined,
  written: Promise<void>,
): Promise<void> {
  const logged = written.catch((error: unknown) => {
    context.log.warn({ err: error, containerId: id }, "a container's output ended early");
  });
  try {
    const exit = await agent.waitContainer(id);
    await withTimeout(logged, DRAIN_MS, 'the end of the output').catch((error: unknown) => {
      context.log.warn({ containerId: id, err: error }, 'a container ended but its output did not');
    });
    await log?.[Symbol.asyncDispose]();
    recordExit(context, id, exit);
  } catch (error) {
    await log?.[Symbol.asyncDispose]().catch(() => undefined);
    // the VM's end is told to all its containers by whoever sees it
    context.log.debug({ err: error, containerId: id, why: describeError(error) }, 'lost sight of a container');
  }
}

export function recordExit(context: PodContext, id: string, exit: AgentExit): void {
  if (!context.containers.has(id) || context.containers.get(id).state === 'exited') return;
  const reason = exit.oomKilled ? 'OOMKilled' : exit.code === 0 ? 'Completed' : 'Error';
  const exitCode = exit.code & 0xff;
  context.containers.update(id, { state: 'exited', finishedAt: nowNs(), exitCode, reason, message: '' });
}
