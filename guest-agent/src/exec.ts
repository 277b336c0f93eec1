import { isCaissonError } from '../../src/lib/errors.ts';
import { killCgroup } from './cgroup.ts';
import { requireRunning } from './containers.ts';
import { readExecOutput, type ExecOutput } from './exec-output.ts';
import { forgetExec, startExec, type ExecProcess } from './exec-process.ts';

export interface ExecEnd {
  readonly code: number;
  readonly timedOut: boolean;
}

const NOT_FOUND_EXIT = 127;
const NOT_EXECUTABLE_EXIT = 126;

/**
 * Runs a command in a running container, in a cgroup of its own so that a timeout or an abort kills all that it
 * started. A command that is not there ends with 127 and a line on stderr, as in a shell.
 */
export async function execSync(
  id: string,
  command: readonly string[],
  timeoutMs: number,
  output: ExecOutput,
  signal: AbortSignal,
): Promise<ExecEnd> {
  const container = requireRunning(id);
  const streams = { tty: false, stdin: false, stdout: true, stderr: true };
  try {
    const started = await startExec(container, { command, ...streams, env: [], size: undefined });
    await using undo = new AsyncDisposableStack();
    undo.defer(() => forgetExec(container, started.cgroup));
    return await supervise(started, timeoutMs, output, signal);
  } catch (error) {
    const code = isCaissonError(error, 'not_found')
      ? NOT_FOUND_EXIT
      : isCaissonError(error, 'permission_denied')
        ? NOT_EXECUTABLE_EXIT
        : undefined;
    if (code === undefined) throw error;
    output.write('stderr', Buffer.from(`${(error as Error).message}\n`));
    return { code, timedOut: false };
  }
}

async function supervise(
  { streams, exited, cgroup }: ExecProcess,
  timeoutMs: number,
  output: ExecOutput,
  signal: AbortSignal,
): Promise<ExecEnd> {
  let timedOut = false;
  const kill = (): void => void killCgroup(cgroup);
  const onTimeout = (): void => {
    timedOut = true;
    kill();
  };
  const timer = timeoutMs > 0 ? setTimeout(onTimeout, timeoutMs) : undefined;
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  using reading = readExecOutput(streams, output);
  try {
    const { code } = await exited;
    clearTimeout(timer);
    await reading.rest(signal);
    return { code, timedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', kill);
  }
}
