import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient, AgentExit, OutputChunk } from '../agent/contracts.ts';
import { withTimeout } from '../lib/async.ts';
import type { LiveContainer, PodContext } from './context.ts';
import type { ContainerLog } from './log-writer.ts';
import { recordExit } from './supervise.ts';
import { releaseVolumes } from './volumes.ts';

/** how long the last output of an ended container is waited for */
const DRAIN_MS = 5000;
const RECONNECT_MS = 200;
const LONGEST_RECONNECT_MS = 3000;

/**
 * Carries a started container's output to its log and its exit to the store, in this order. `exited`: as the call that started it
 * tells it; without it, or when its connection is lost, the agent is asked.
 */
export function followContainer(
  context: PodContext,
  id: string,
  agent: AgentClient,
  log: ContainerLog | undefined,
  exited?: Promise<AgentExit>,
): LiveContainer {
  const ended = follow(context, id, agent, log, exited).finally(() => context.liveContainers.delete(id));
  const live = { log, ended };
  context.liveContainers.set(id, live);
  return live;
}

/** Never rejects. */
async function follow(
  context: PodContext,
  id: string,
  agent: AgentClient,
  log: ContainerLog | undefined,
  exited: Promise<AgentExit> | undefined,
) {
  const warn = (message: string) => (error: unknown) => context.log.warn({ err: error, containerId: id }, message);
  const lost = (error: unknown) => context.log.debug({ err: error, containerId: id }, 'lost sight of a container');
  const store = storeIn(context, id, log);
  const logged = whileReachable(context, id, agent, () => agent.output(id, store)).catch((error: unknown) =>
    context.closing ? lost(error) : warn("a container's output ended early")(error),
  );
  let exit: AgentExit | undefined;
  let told = exited;
  const wait = (): Promise<AgentExit> => {
    const first = told;
    told = undefined;
    return first ?? agent.waitContainer(id);
  };
  try {
    exit = await whileReachable(context, id, agent, wait);
    await withTimeout(logged, DRAIN_MS, 'the end of the output').catch(warn('a container ended, its output did not'));
  } catch (error) {
    lost(error); // the VM's end is told to all its containers by whoever sees it
  }
  const leaving = exit === undefined && context.closing;
  await (leaving ? log?.leave() : log?.end())?.catch(warn('the last output of a container could not be logged'));
  if (!exit) return;
  recordExit(context, id, exit);
  // as other runtimes: the node can unmount what an ended container has used
  if (context.containers.has(id)) await releaseVolumes(context, context.containers.get(id).sandboxId, id);
}

/** A log that cannot be written, as on a full disk, costs lines: the container must not stand still for it. */
function storeIn(context: PodContext, id: string, log: ContainerLog | undefined) {
  let failing = false;
  return async (chunk: OutputChunk): Promise<number> => {
    if (!log) return chunk.endOffset;
    try {
      const stored = await log.write(chunk);
      failing = false;
      return stored;
    } catch (error) {
      if (!failing) context.log.error({ err: error, containerId: id }, 'output of a container is lost: no log');
      failing = true;
      return chunk.endOffset;
    }
  };
}

/** A connection may break under a VM that runs on; the agent keeps what it is asked for. A guest that only fails is asked seldom. */
async function whileReachable<T>(
  context: PodContext,
  id: string,
  agent: AgentClient,
  ask: () => Promise<T>,
): Promise<T> {
  for (let failures = 0; ;) {
    const askedMs = performance.now();
    try {
      return await ask();
    } catch (error) {
      if (!isReachable(context, id, agent)) throw error;
      const wentWell = performance.now() - askedMs > LONGEST_RECONNECT_MS;
      failures = wentWell ? 1 : failures + 1;
      context.log[failures === 1 ? 'warn' : 'debug']({ err: error, containerId: id }, 'asking the guest agent again');
      await sleep(Math.min(RECONNECT_MS * 2 ** (failures - 1), LONGEST_RECONNECT_MS));
      await standstillOf(context, id);
      if (!isReachable(context, id, agent)) throw error;
    }
  }
}

function standstillOf(context: PodContext, id: string): Promise<void> | undefined {
  if (!context.containers.has(id)) return undefined;
  return context.liveSandboxes.get(context.containers.get(id).sandboxId)?.standstill?.promise;
}

function isReachable(context: PodContext, id: string, agent: AgentClient): boolean {
  if (context.closing || !context.containers.has(id)) return false;
  const { sandboxId, state } = context.containers.get(id);
  const live = context.liveSandboxes.get(sandboxId);
  return state === 'running' && live?.agent === agent && !live.stopping;
}
