import { closeSync, constants, fchownSync, openSync, readFileSync, writeSync } from 'node:fs';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';
import { pipe, receiveFd, unixListener, type ProcessEnd } from './native.ts';
import { paths } from './paths.ts';
import { startProgram, type ProgramStreams } from './program.ts';
import { reaperMark, waitForExit } from './reaper.ts';
import { readSmall, removeSmall, writeSmall } from './small-files.ts';

/** The agent's ends of a process's standard streams, as descriptors. */
export interface ProcessStreams {
  /** the master of the terminal; then there are no others */
  readonly terminal?: number;
  /** write end */
  readonly stdin?: number | undefined;
  /** read ends */
  readonly stdout?: number | undefined;
  readonly stderr?: number | undefined;
}

export interface StartedProcess {
  /** in the guest's root pid namespace; a zombie until the reaper has seen it */
  readonly pid: number;
  readonly exited: Promise<ProcessEnd>;
  readonly streams: ProcessStreams;
}

export interface LaunchOptions {
  /** the container that `crun create` makes, which then waits to be let go */
  readonly waiting?: string;
  /** of the files this call makes, unique per call */
  readonly scratchPath: string;
  readonly terminal: boolean;
  /** without a terminal; streams that are not wanted are /dev/null */
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** of the streams, so that the process can open them by name; root of the VM if undefined */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/**
 * Runs `crun <args>` detached: it returns when the process runs, and the process is then a child of the agent.
 * Throws `not_found` when there is no such command, `permission_denied` when it cannot be executed.
 */
export async function launch(
  args: (extra: readonly string[]) => readonly string[],
  options: LaunchOptions,
): Promise<StartedProcess> {
  const pidFile = `${options.scratchPath}.pid`;
  const logFile = `${options.scratchPath}.log`;
  const extra = ['--pid-file', pidFile];
  const command = ['--root', paths.crunRoot, '--cgroup-manager=cgroupfs', '--log', `file:${logFile}`];
  const mark = reaperMark();
  try {
    const start = options.terminal ? startOnTerminal : startOnPipes;
    const streams = await start([...command], extra, args, options, logFile);
    try {
      const pid = Number(readFileSync(pidFile, 'utf8'));
      if (options.waiting !== undefined) letGo(options.waiting);
      return { pid, exited: waitForExit(pid, mark), streams };
    } catch (error) {
      closeAll(Object.values(streams));
      throw error;
    }
  } finally {
    removeSmall(pidFile, logFile);
  }
}

/**
 * Lets a container that `crun create` has made run its command, as `crun start` would: the process waits for a byte from this
 * FIFO, whose name says that it waits. `crun run` needs three processes more, `crun start` one.
 */
function letGo(id: string): void {
  const path = `${paths.crunRoot}/${id}/exec.fifo`;
  let fifo: number | undefined;
  try {
    fifo = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    writeSync(fifo, '0');
  } catch (error) {
    // nobody waits any more: the process has been killed
    if (!isErrno(error, 'ENXIO') && !isErrno(error, 'EPIPE')) throw error;
  } finally {
    if (fifo !== undefined) closeSync(fifo);
    removeSmall(path);
  }
}

type Start = (
  command: readonly string[],
  extra: readonly string[],
  args: (extra: readonly string[]) => readonly string[],
  options: LaunchOptions,
  logFile: string,
) => Promise<ProcessStreams>;

const startOnPipes: Start = async (command, extra, args, options, logFile) => {
  const stdin = options.stdin ? pipe() : undefined;
  const stdout = options.stdout ? pipe() : undefined;
  const stderr = options.stderr ? pipe() : undefined;
  const ours: ProcessStreams = { stdin: stdin?.write, stdout: stdout?.read, stderr: stderr?.read };
  const theirs: ProgramStreams = { stdin: stdin?.read, stdout: stdout?.write, stderr: stderr?.write };
  try {
    const { owner } = options;
    if (owner) for (const fd of Object.values(theirs)) if (fd !== undefined) fchownSync(fd, owner.uid, owner.gid);
    await crun([...command, ...args(extra)], theirs, logFile);
    return ours;
  } catch (error) {
    closeAll(Object.values(ours));
    throw error;
  } finally {
    closeAll(Object.values(theirs));
  }
};

function closeAll(fds: readonly (number | undefined)[]): void {
  for (const fd of fds) if (fd !== undefined) closeSync(fd);
}

const startOnTerminal: Start = async (command, extra, args, options, logFile) => {
  const socketPath = `${options.scratchPath}.tty`;
  const listener = unixListener(socketPath);
  try {
    await crun([...command, ...args([...extra, '--console-socket', socketPath])], {}, logFile);
    // crun has connected and sent the master before it ended, so nothing here waits
    const { connection, fd } = receiveFd(listener);
    closeSync(connection);
    return { terminal: fd };
  } finally {
    closeSync(listener);
    removeSmall(socketPath);
  }
};

/**
 * crun runs a read-only copy of itself, so that no container can write to its file: CVE-2019-5736. The VM's root cannot be
 * written to at all; this tells crun that it is that copy, and saves the second start.
 */
const IS_COPY = '_LIBCONTAINER_CLONED_BINARY=1';

const startCrun = (args: readonly string[], streams: ProgramStreams) =>
  startProgram('/usr/bin/crun', args, streams, [IS_COPY]);

async function crun(args: readonly string[], streams: ProgramStreams, logFile: string): Promise<void> {
  const { code } = await startCrun(args, streams).exited;
  if (code !== 0) throw crunError(readSmall(logFile), code);
}

/**
 * crun's own words: `<time> error: executable file `x` not found in $PATH: No such file or directory`, or ``the path
 * `x` exists but it is not executable: Operation not permitted``, ``exec `x`: Exec format error``, ``chdir to `x`: Not
 * a directory``, or, for a container that ends just then, ``the container `x` is not running``.
 */
export function crunError(log: string, code: number): CaissonError {
  const lines = log
    .trim()
    .split('\n')
    .map((line) => line.replace(/^\S+Z?:? *(?=\S)/, (prefix) => (/^\d{4}-/.test(prefix) ? '' : prefix)));
  const words = lines.at(-1)?.trim() || `exit code ${code}`;
  const directory = /^chdir to `(.*)`: (.*)$/.exec(words);
  if (directory)
    return new CaissonError('invalid_argument', `working_dir ${JSON.stringify(directory[1])}: ${directory[2]}`);
  if (/exec|the path |cannot find/i.test(words)) {
    if (/not executable|not a regular file|Permission denied|Exec format error|Is a directory/i.test(words)) {
      return new CaissonError('permission_denied', words);
    }
    if (/not found|No such file or directory|path is empty/i.test(words)) return new CaissonError('not_found', words);
  }
  if (/^the container `[^`]*` is not running$/.test(words)) return new CaissonError('failed_precondition', words);
  return new CaissonError('internal', `crun: ${words}`);
}

/** Changes limits; `resources` is OCI's `linux.resources` as JSON. */
export async function crunUpdate(id: string, resources: string, scratchPath: string): Promise<void> {
  const file = `${scratchPath}.resources`;
  const logFile = `${scratchPath}.log`;
  writeSmall(file, resources);
  const args = ['--root', paths.crunRoot, '--cgroup-manager=cgroupfs', '--log', `file:${logFile}`];
  try {
    await crun([...args, 'update', '--resources', file, id], {}, logFile);
  } finally {
    removeSmall(file, logFile);
  }
}

/** Kills what is left of a container and forgets it. */
export async function crunDelete(id: string): Promise<void> {
  await startCrun(['--root', paths.crunRoot, '--cgroup-manager=cgroupfs', 'delete', '--force', id], {}).exited;
}
