/** What must hold before the guest is asked for something. Each throws `failed_precondition` at once. */
import { CaissonError } from '../lib/errors.ts';
import { shortId } from '../lib/ids.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import type { ContainerRecord } from './records.ts';

/** A sandbox that is ready and whose VM does not stand still. */
export function requireLive(context: PodContext, sandboxId: string): LiveSandbox {
  const live = context.liveSandboxes.get(sandboxId);
  if (live && !live.stopping && context.sandboxes.get(sandboxId).state === 'ready') {
    requireGoing(sandboxId, live);
    return live;
  }
  throw new CaissonError('failed_precondition', `sandbox ${sandboxId} is not ready`);
}

export function requireGoing(sandboxId: string, { standstill }: LiveSandbox): void {
  if (!standstill) return;
  throw new CaissonError('failed_precondition', `sandbox ${sandboxId} is paused, so its guest cannot be asked`, {
    hint: `caisson resume ${shortId(sandboxId)}`,
  });
}

/** A running container, frozen or not, of such a sandbox. */
export function requireRunning(
  context: PodContext,
  id: string,
): { readonly record: ContainerRecord; readonly live: LiveSandbox } {
  const record = context.containers.get(id);
  if (record.state !== 'running')
    throw new CaissonError('failed_precondition', `container ${id} is ${record.state}, not running`);
  return { record, live: requireLive(context, record.sandboxId) };
}

/** As `requireRunning`, and not frozen: a command in it would not begin before it is thawed. */
export function requireStreamable(
  context: PodContext,
  id: string,
): { readonly record: ContainerRecord; readonly live: LiveSandbox } {
  const running = requireRunning(context, id);
  if (!running.record.paused) return running;
  throw new CaissonError('failed_precondition', `container ${id} is paused`, {
    hint: `caisson unpause ${shortId(id)}`,
  });
}
