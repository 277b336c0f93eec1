import { orAborted, withTimeout } from '../lib/async.ts';
import { CaissonError, isCaissonError } from '../lib/errors.ts';
import type { LiveSandbox, PodContext } from './context.ts';
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
  if (!context.containers.has(id)) return;
  const record = context.containers.get(id);
  const live = context.liveSandboxes.get(record.sandboxId);
  const ended = context.liveContainers.get(id)?.ended;
  if (record.state !== 'running' || !live || !ended) return;
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
  const { ignored } = await orAborted(live.agent.signalContainer(id, record.stopSignalNumber, false), signal);
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
  await orAborted(live.agent.signalContainer(id, SIGKILL, true), signal);
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
