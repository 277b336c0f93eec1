import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { CaissonError, isErrno } from './errors.ts';
import { ignoreMissing } from './files.ts';

/** A process that may outlive the daemon. `startTicks` tells it from a later one with the same pid. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
}

export interface DetachedProcess {
  readonly identity: ProcessIdentity;
  /** resolves when it has ended, with a sentence part such as `exit code 1` or `signal SIGKILL` */
  readonly exited: Promise<string>;
}

/** Starts a process in a session of its own, which goes on when the daemon ends; stdout and stderr go to `log`, a file
 * or a descriptor; `inherit` are descriptors of ours that become its 3, 4, ... */
export async function startDetached(
  command: string,
  args: readonly string[],
  log: string | number,
  inherit: readonly number[] = [],
): Promise<DetachedProcess> {
  const output = typeof log === 'number' ? log : openSync(log, 'a', 0o600);
  try {
    const child = spawn(command, args, { detached: true, stdio: ['ignore', output, output, ...inherit], cwd: '/' });
    const exited = new Promise<string>((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ? `signal ${signal}` : `exit code ${code}`));
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) => reject(startError(command, error)));
    });
    child.unref();
    const { pid } = child;
    if (pid === undefined) throw new CaissonError('internal', `${command} has no pid`);
    return { identity: { pid, startTicks: (await startTicks(pid)) ?? '' }, exited };
  } finally {
    if (output !== log) closeSync(output);
  }
}

function startError(command: string, error: unknown): CaissonError {
  if (isErrno(error, 'ENOENT'))
    return new CaissonError('failed_precondition', `${command} is not installed`, { cause: error });
  return new CaissonError('internal', `${command} cannot be started`, { cause: error });
}

/** Start time in clock ticks since boot, field 22 of /proc/pid/stat; undefined when there is no such process. */
export async function startTicks(pid: number): Promise<string | undefined> {
  return (await statFields(pid))?.[19];
}

/** By SIGSTOP. */
export async function isStopped({ pid }: ProcessIdentity): Promise<boolean> {
  return (await statFields(pid))?.[0] === 'T';
}

/** Those behind the name, of /proc/pid/stat. */
async function statFields(pid: number): Promise<string[] | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(gone);
  // the name in parentheses may hold anything, so count from its end
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
}

const gone = (error: unknown): undefined => {
  if (isErrno(error, 'ESRCH')) return undefined;
  return ignoreMissing(undefined)(error);
};

/** Every process of the host whose command line, arguments joined by blanks, passes the test. */
export async function findProcesses(test: (commandLine: string) => boolean): Promise<ProcessIdentity[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(gone);
      if (commandLine === undefined || !test(commandLine.replaceAll('\0', ' '))) return [];
      const ticks = await startTicks(pid);
      return ticks === undefined ? [] : [{ pid, startTicks: ticks }];
    }),
  );
  return found.flat();
}

export async function isRunning(process: ProcessIdentity): Promise<boolean> {
  return (await startTicks(process.pid)) === process.startTicks;
}

/** a third of what others get who want the processors, too: with the lowest, nothing would come up on a busy node */
export const LOW_PRIORITY = 5;
export const NORMAL_PRIORITY = 0;

/**
 * Sets the priority of all threads of a process, -20 to 19. The kernel may group processes by session and then compares
 * the groups: sched(7), autogroup.
 */
export async function setNice({ pid }: ProcessIdentity, nice: number): Promise<void> {
  const threads = (await readdir(`/proc/${pid}/task`).catch(ignoreMissing<string[]>([]))).map(Number);
  for (const thread of threads) {
    try {
      setPriority(thread, nice);
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error; // it has just ended
    }
  }
  await writeFile(`/proc/${pid}/autogroup`, String(nice)).catch(gone);
}

/** SIGKILLs the process if it is still the same one. */
export function killProcess(identity: ProcessIdentity): Promise<void> {
  return sendSignal(identity, 'SIGKILL');
}

/** As `killProcess`, for one of `startDetached`: with what it has started and has not put in a group of its own. */
export function killGroup(identity: ProcessIdentity): Promise<void> {
  return sendSignal(identity, 'SIGKILL', -identity.pid);
}

/** To the process if it is still the same one; `target`: or to its group, by its negative pid. */
export async function sendSignal(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  target = identity.pid,
): Promise<void> {
  if (!(await isRunning(identity))) return;
  try {
    process.kill(target, signal);
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}
