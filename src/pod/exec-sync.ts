import { withTimeout } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import { annotate } from '../lib/trace.ts';
import { requireStreamable } from './live.ts';
import type { PodContext } from './context.ts';
import type { ExecResult } from './contracts.ts';

/** The limit that containerd and CRI-O set, per stream. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** beyond the command's own time, before the guest is taken for hung: to start and to kill one takes seconds under TCG */
const GUEST_GRACE_MS = 30_000;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Runs a command in a running container. When its time is over it has been killed in the guest. */
export async function execSync(
  context: PodContext,
  id: string,
  command: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ExecResult> {
  if (command.some((text) => text.includes('\0'))) throw new CaissonError('invalid_argument', 'cmd: has a NUL');
  const { live, record } = requireStreamable(context, id);
  annotate({ sandboxId: record.sandboxId });
  using hung = abortOnDispose();
  const either = AbortSignal.any([signal, hung.signal]);
  const answer = live.agent.execSync(id, command, timeoutMs, MAX_OUTPUT_BYTES, either);
  const limitMs = Math.min(timeoutMs + GUEST_GRACE_MS, MAX_TIMER_MS);
  const { stdout, stderr, exitCode, timedOut } = await (timeoutMs === 0
    ? answer
    : withTimeout(answer, limitMs, `the guest's answer to ExecSync in container ${id}`));
  if (timedOut)
    throw new CaissonError(
      'deadline_exceeded',
      `${JSON.stringify(command[0])} did not end within ${timeoutMs} ms and was killed`,
    );
  return { stdout, stderr, exitCode };
}

/** Its signal aborts at the end of the scope: what still runs then is given up. */
function abortOnDispose(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  return { signal: controller.signal, [Symbol.dispose]: () => controller.abort() };
}
