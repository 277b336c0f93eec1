import type { Socket } from 'node:net';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { CaissonError, isCaissonError } from '../../src/lib/errors.ts';
import { killCgroup, removeCgroup } from './cgroup.ts';
import { getContainer, type Container } from './containers.ts';
import { launch, type StartedProcess } from './crun.ts';
import { readerOf } from './descriptor.ts';
import { containerPaths } from './paths.ts';

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
/** how long a stream that processes the command left behind hold open may be silent */
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
    await removeCgroups(container.execCgroups.add(cgroup));
  }
}

/** Of commands that have left processes behind, some stay for the next exec to remove, or the container's removal. */
async function removeCgroups(cgroups: Set<string>): Promise<void> {
  await Promise.all([...cgroups].map(async (path) => (await removeCgroup(path)) && cgroups.delete(path)));
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
  const onTimeout = (): void => {
    timedOut = true;
    kill();
  };
  const timer = timeoutMs > 0 ? setTimeout(onTimeout, timeoutMs) : undefined;
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  const { stdout, stderr } = started.streams;
  const sources = [forward('stdout', stdout, output)];
  if (stderr !== undefined) sources.push(forward('stderr', stderr, output));
  try {
    const code = await started.exited;
    clearTimeout(timer);
    await drain(sources, signal);
    return { code, timedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', kill);
    sources.forEach(({ socket }) => socket.destroy());
  }
}

interface Source {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  /** `ms` since something last came, 0 while it is the reader that is waited for */
  idleMs(): number;
}

function forward(stream: 'stdout' | 'stderr', fd: number, output: ExecOutput): Source {
  const socket = readerOf(fd);
  let lastMs = performance.now();
  const flows = (): void => {
    lastMs = performance.now();
  };
  socket.on('data', (data: Buffer) => {
    flows();
    if (output.write(stream, data)) return;
    socket.pause();
    void output.drained().then(() => {
      flows();
      socket.resume();
    });
  });
  const closed = new Promise<void>((resolve) => {
    socket.once('error', () => socket.destroy());
    socket.once('close', () => resolve());
  });
  return { socket, closed, idleMs: () => (socket.isPaused() ? 0 : performance.now() - lastMs) };
}

/** Returns when both streams have ended, or nothing comes any more: what the command left behind may hold them open. */
async function drain(sources: readonly Source[], signal: AbortSignal): Promise<void> {
  const look = setInterval(() => {
    if (!signal.aborted && sources.some((source) => source.idleMs() < DRAIN_MS)) return;
    sources.forEach(({ socket }) => socket.destroy());
  }, DRAIN_MS / 5);
  await Promise.all(sources.map(({ closed }) => closed));
  clearInterval(look);
}
