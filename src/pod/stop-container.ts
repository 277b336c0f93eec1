import { orAborted, withTimeout } from '../lib/async.ts';
import { CaissonError, isCaissonError } from '../lib/errors.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import { requireGoing } from './live.ts';
import { unpauseContainer } from './pause-container.ts';
import type { ContainerRecord } from './records.ts';

const SIGKILL = 9;
/** the guest's time to end a killed container, before its VM is taken for hung */
const KILL_GRACE_MS = 20_000;

/** Stop signal, grace, SIGKILL. Returns when the container's exit is in the store. Idempotent. */
export async function stopContainer(
  context: PodContext,
  id: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  // a start that is under way is waited for: what it starts is to be stopped
  await orAborted(
    context.locks.run(id, () => Promise.resolve()),
    signal,
  );
  if (!context.containers.has(id)) return;
  const record = context.containers.get(id);
  const live = context.liveSandboxes.get(record.sandboxId);
  const ended = context.liveContainers.get(id)?.ended;
  if (record.state === 'running' && live) requireGoing(record.sandboxId, live);
  if (record.state !== 'running' || !live || !ended) return;
  // frozen processes hear no signal but SIGKILL
  if (record.paused) await unpauseContainer(context, id);
  if (timeoutMs > 0 && (await endsByItself(live, id, record, ended, timeoutMs, signal))) return;
  await kill(live, id, ended, signal);
}

/** True when the container ended within its grace; one that does not handle the signal gets none. */
async function endsByItself(
  live: LiveSandbox,
  id: string,
  record: ContainerRecord,
  ended: Promise<void>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const { ignored, gone } = await send(live, id, record.stopSignalNumber, signal);
  if (gone) return true;
  if (ignored) return false;
  try {
    await withTimeout(orAborted(ended, signal), timeoutMs, 'the end of the container');
    return true;
  } catch (error) {
    if (isCaissonError(error, 'deadline_exceeded')) return false;
    throw error;
  }
}

async function kill(live: LiveSandbox, id: string, ended: Promise<void>, signal: AbortSignal): Promise<void> {
  const { gone } = await send(live, id, SIGKILL, signal);
  if (gone) return;
  try {
    await withTimeout(orAborted(ended, signal), KILL_GRACE_MS, 'the end of the container');
  } catch (error) {
    if (!isCaissonError(error, 'deadline_exceeded')) throw error;
    throw new CaissonError('deadline_exceeded', `container ${id} did not end ${KILL_GRACE_MS / 1000} s after SIGKILL`, {
      cause: error,
      hint: 'stop the pod: that kills its VM',
    });
  }
}

/** To the first process, SIGKILL to all. `gone`: a removal at the same time was quicker. */
async function send(
  { agent }: LiveSandbox,
  id: string,
  number: number,
  signal: AbortSignal,
): Promise<{ readonly ignored: boolean; readonly gone: boolean }> {
  try {
    const { ignored } = await orAborted(agent.signalContainer(id, number, number === SIGKILL), signal);
    return { ignored, gone: false };
  } catch (error) {
    if (isCaissonError(error, 'not_found')) return { ignored: false, gone: true };
    throw error;
  }
}
