import { CaissonError } from '../lib/errors.ts';
import { requireLive } from './create-container.ts';
import type { PodContext } from './context.ts';
import type { ExecResult } from './contracts.ts';

/** The limit that containerd and CRI-O set, per stream. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Runs a command in a running container. When its time is over it has been killed in the guest. */
export async function execSync(
  context: PodContext,
  id: string,
  command: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ExecResult> {
  if (command.some((text) => text.includes('\0'))) throw new CaissonError('invalid_argument', 'cmd: has a NUL');
  const { sandboxId, state } = context.containers.get(id);
  if (state !== 'running') throw new CaissonError('failed_precondition', `container ${id} is ${state}, not running`);
  const live = requireLive(context, sandboxId);
  const { stdout, stderr, exitCode, timedOut } = await live.agent.execSync(
    id,
    command,
    timeoutMs,
    MAX_OUTPUT_BYTES,
    signal,
  );
  if (timedOut)
    throw new CaissonError(
      'deadline_exceeded',
      `${JSON.stringify(command[0])} did not end within ${timeoutMs} ms and was killed`,
    );
  return { stdout, stderr, exitCode };
}
