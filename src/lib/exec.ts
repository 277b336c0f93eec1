import { execa, ExecaError } from 'execa';
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { basename } from 'node:path';
import { CaissonError, isErrno } from './errors.ts';
import { traced } from './trace.ts';

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  /** `ms`; the process is killed when it is over */
  readonly timeoutMs?: number;
  readonly input?: string | Buffer;
  /** piped to standard input; an error of the stream kills the process */
  readonly stdin?: Readable;
  readonly env?: Readonly<Record<string, string>>;
  /** the environment is exactly `env` */
  readonly cleanEnv?: boolean;
  readonly cwd?: string;
  /** a process group of its own: when it is killed, so is what it has started; Ctrl-C of a terminal does not reach it */
  readonly ownGroup?: boolean;
  /** exit codes that are not errors, 0 if left out */
  readonly okCodes?: readonly number[];
  /** how to install the program, for the error of a missing one */
  readonly installHint?: string;
  /** the name of its span, `run <program>` if left out */
  readonly phase?: string;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;
const ERROR_TAIL_LINES = 5;

/**
 * Runs a program to its end and returns what it printed. Arguments go as they are: no shell is involved.
 * Throws CaissonError: `failed_precondition` when the program is missing, `deadline_exceeded` on timeout,
 * `cancelled` on abort, `internal` with the last lines of its stderr (or stdout) on any other failure.
 */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return traced(options.phase ?? `run ${basename(command)}`, () => runNow(command, args, options));
}

async function runNow(command: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const okCodes = options.okCodes ?? [0];
  try {
    const child = execa(command, args, {
      ...(options.signal && { cancelSignal: options.signal }),
      ...(options.timeoutMs !== undefined && { timeout: options.timeoutMs }),
      ...(options.env && { env: options.env }),
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      ...stdinOption(options),
      extendEnv: options.cleanEnv !== true,
      detached: options.ownGroup === true,
      forceKillAfterDelay: 2000,
      maxBuffer: MAX_OUTPUT_BYTES,
      stripFinalNewline: false,
    });
    if (options.ownGroup === true) killRestOfGroup(child);
    const result = await child;
    return { stdout: result.stdout ?? '', stderr: result.stderr ?? '', exitCode: 0 };
  } catch (error) {
    if (error instanceof ExecaError) {
      const text = { stdout: error.stdout ?? '', stderr: error.stderr ?? '' };
      if (error.exitCode !== undefined && okCodes.includes(error.exitCode))
        return { ...text, exitCode: error.exitCode };
      throw commandError(command, args, error, text, options);
    }
    throw error;
  }
}

/** A program that ends by itself may leave others behind; of one that was killed, nothing shall go on. */
function killRestOfGroup(child: Pick<ChildProcess, 'pid' | 'killed' | 'once'>): void {
  child.once('exit', () => {
    if (child.killed && child.pid !== undefined) killGroup(child.pid);
  });
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}

function stdinOption(options: RunOptions) {
  if (options.input !== undefined) return { input: options.input };
  if (options.stdin) return { stdin: ['pipe', options.stdin] as ['pipe', Readable] };
  return { stdin: 'ignore' as const };
}

function commandError(
  command: string,
  args: readonly string[],
  error: ExecaError,
  text: { stdout: string; stderr: string },
  options: RunOptions,
): CaissonError {
  const name = [command, args[0]].filter((part) => part !== undefined && !part.startsWith('-')).join(' ');
  if (isErrno(error.cause, 'ENOENT') || error.code === 'ENOENT') {
    return new CaissonError('failed_precondition', `${command} is not installed`, {
      cause: error,
      hint: options.installHint,
    });
  }
  if (error.isCanceled) return new CaissonError('cancelled', `${name} was cancelled`, { cause: error });
  if (error.timedOut) {
    return new CaissonError('deadline_exceeded', `${name} did not finish within ${options.timeoutMs} ms`, {
      cause: error,
    });
  }
  const said = tail(text.stderr) || tail(text.stdout) || error.shortMessage;
  return new CaissonError('internal', `${name} failed: ${said}`, { cause: error });
}

/** The last lines of a program's output, on one line. */
export function tail(output: string, lines = ERROR_TAIL_LINES): string {
  return output.trimEnd().split('\n').slice(-lines).join('; ').trim();
}
