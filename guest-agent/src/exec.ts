import { Socket } from 'node:net';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { CaissonError, isCaissonError } from '../../src/lib/errors.ts';
import { killCgroup, removeCgroup } from './cgroup.ts';
import { getContainer, type Container } from './containers.ts';
import { launch, type StartedProcess } from './crun.ts';
import { containerPaths } from './paths.ts';
import { waitForExit } from './reaper.ts';

export interface ExecOutput {
  /** false: stop reading until `drained` */
  write(stream: 'stdout' | 'stderr', data: Buffer): boolean;
  drained(): Promise<void>;
}

export interface ExecEnd {
  readonly code: number;
  readonly timedOut: boolean;
}

const NOT_FOUND_EXIT = 127;
const NOT_EXECUTABLE_EXIT = 126;
/** how long output of processes that the command left behind is waited for */
const DRAIN_MS = 500;

let execCount = 0;

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
  const container = getContainer(id);
  if (container.pid === undefined || container.exit)
    throw new CaissonError('failed_precondition', `container ${id} is not running`);
  const name = `exec-${++execCount}`;
  const cgroup = `${containerPaths(id).cgroup}/${name}`;
  try {
    const started = await startExec(container, command, name, cgroup);
    return await supervise(started, cgroup, timeoutMs, output, signal);
  } catch (error) {
    const code = isCaissonError(error, 'not_found')
      ? NOT_FOUND_EXIT
      : isCaissonError(error, 'permission_denied')
        ? NOT_EXECUTABLE_EXIT
        : undefined;
    if (code === undefined) throw error;
    output.write('stderr', Buffer.from(`${(error as Error).message}\n`));
    return { code, timedOut: false };
  } finally {
    await removeCgroup(cgroup);
  }
}

async function startExec(
  container: Container,
  command: readonly string[],
  name: string,
  cgroup: string,
): Promise<StartedProcess> {
  const { home } = containerPaths(container.id);
  const processFile = `${home}/${name}.json`;
  await mkdir(cgroup, { recursive: true });
  await writeFile(processFile, JSON.stringify({ ...container.spec.process, terminal: false, args: command }));
  try {
    return await launch(
      (extra) => ['exec', '--detach', '--process', processFile, '--cgroup', name, ...extra, container.id],
      {
        scratchPath: `${home}/${name}`,
        terminal: false,
        stdin: false,
      },
    );
  } finally {
    await rm(processFile, { force: true });
  }
}

async function supervise(
  started: StartedProcess,
  cgroup: string,
  timeoutMs: number,
  output: ExecOutput,
  signal: AbortSignal,
): Promise<ExecEnd> {
  let timedOut = false;
  const kill = (): void => void killCgroup(cgroup);
  const timer =
    timeoutMs > 0
      ? setTimeout(() => {
          timedOut = true;
          kill();
        }, timeoutMs)
      : undefined;
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  const sources = [forward('stdout', started.streams.stdout, output)];
  if (started.streams.stderr !== undefined) sources.push(forward('stderr', started.streams.stderr, output));
  try {
    const code = await waitForExit(started.pid);
    const late = setTimeout(() => sources.forEach(({ socket }) => socket.destroy()), DRAIN_MS);
    await Promise.all(sources.map(({ closed }) => closed));
    clearTimeout(late);
    return { code, timedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', kill);
    sources.forEach(({ socket }) => socket.destroy());
  }
}

function forward(
  stream: 'stdout' | 'stderr',
  fd: number,
  output: ExecOutput,
): { socket: Socket; closed: Promise<void> } {
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on('data', (data: Buffer) => {
    if (output.write(stream, data)) return;
    socket.pause();
    void output.drained().then(() => socket.resume());
  });
  const closed = new Promise<void>((resolve) => {
    socket.once('error', () => socket.destroy());
    socket.once('close', () => resolve());
  });
  return { socket, closed };
}
