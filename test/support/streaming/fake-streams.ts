/** A StreamService over processes and ports of this machine: containers are names, their commands run here. */
import { spawn, type ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { connect } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { PassThrough, type Duplex, type Readable, type Writable } from 'node:stream';
import { CaissonError } from '../../../src/lib/errors.ts';
import type {
  ExecStreamRequest,
  ProcessExit,
  ProcessSession,
  StreamService,
  StreamsWanted,
  TerminalSize,
} from '../../../src/pod/contracts.ts';

export interface FakeStreams extends StreamService, Disposable {
  /** of all sessions, in order */
  readonly sizes: TerminalSize[];
  /** that were opened and not disposed of */
  readonly sessions: ReadonlySet<ProcessSession>;
  /** resolves when so many sessions are open */
  settled(count: number): Promise<void>;
  /** connections to ports that are open */
  readonly forwarded: ReadonlySet<Duplex>;
  /** as when a VM dies: all sessions fail */
  killVm(): void;
}

export const CONTAINER = 'box';
export const POD = 'pod';

export interface FakeOptions {
  /** of the container: what attach is attached to; `cat` if left out */
  readonly main?: readonly string[];
}

export function fakeStreams({ main = ['cat'] }: FakeOptions = {}): FakeStreams {
  const sizes: TerminalSize[] = [];
  const sessions = new Set<ProcessSession>();
  const broken = new Set<() => void>();
  const forwarded = new Set<Duplex>();
  const changed = new EventEmitter();
  let container: ChildProcess | undefined;

  const session = (
    child: ChildProcess,
    ends: Pick<ProcessSession, 'stdin' | 'stdout' | 'stderr'>,
    leave: () => void,
  ): ProcessSession => {
    const { promise: exited, resolve, reject } = Promise.withResolvers<ProcessExit>();
    // a test may not be interested
    exited.catch(() => undefined);
    if (child.exitCode !== null) resolve({ code: child.exitCode, signal: 0 });
    child.on('exit', (code, signal) => {
      const number = signal ? constants.signals[signal] : 0;
      resolve({ code: code ?? 128 + number, signal: number });
    });
    const died = (): void => {
      const error = new CaissonError('unavailable', 'the VM of the pod has died');
      for (const stream of [ends.stdin, ends.stdout, ends.stderr]) stream?.destroy(error);
      reject(error);
    };
    broken.add(died);
    const made: ProcessSession = {
      ...ends,
      exited,
      resize: (size) => sizes.push(size),
      signal: (signal) => void child.kill(signal),
      [Symbol.asyncDispose]: async () => {
        sessions.delete(made);
        changed.emit('change');
        broken.delete(died);
        leave();
      },
    };
    sessions.add(made);
    changed.emit('change');
    return made;
  };

  const exec = async (request: ExecStreamRequest): Promise<ProcessSession> => {
    // there is no terminal here: the size it would have begun with is in its environment
    const { size, env } = request;
    const child = await start(request.command, request, { ...env, ...(size && { COLUMNS: String(size.columns) }) });
    const ends = {
      stdin: child.stdin ?? undefined,
      stdout: child.stdout ?? undefined,
      stderr: child.stderr ?? undefined,
    };
    return session(child, ends, () => {
      for (const stream of Object.values(ends)) stream?.destroy();
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) killGroup(child.pid);
    });
  };

  return {
    sizes,
    sessions,
    forwarded,
    settled: async (count) => {
      while (sessions.size !== count) await once(changed, 'change');
    },
    killVm: () => {
      for (const died of broken) died();
    },
    [Symbol.dispose]: () => void container?.kill('SIGKILL'),
    streamable: (id) => {
      if (id !== CONTAINER) throw new CaissonError('not_found', `no container ${id}`);
      return { id, tty: false, stdin: true };
    },
    forwardable: (id) => {
      if (id !== POD) throw new CaissonError('not_found', `no pod ${id}`);
      return { id };
    },
    execStream: (_id: string, request: ExecStreamRequest) => exec(request),
    vmExec: (id: string, request: ExecStreamRequest) => exec({ ...request, env: { ...request.env, VM: id } }),
    sftp: () => exec({ ...SFTP, stdin: true, stdout: true, stderr: true, tty: false }),
    attach: async (_id: string, wanted: StreamsWanted) => {
      container ??= await start(main, { stdin: true, stdout: true, stderr: true });
      const { stdin, stdout, stderr } = container;
      const ends = {
        stdin: wanted.stdin && stdin ? ownEnd(stdin) : undefined,
        stdout: wanted.stdout && stdout ? branch(stdout) : undefined,
        stderr: wanted.stderr && stderr ? branch(stderr) : undefined,
      };
      return session(container, ends, () => {
        for (const stream of Object.values(ends)) stream?.destroy();
      });
    },
    portForward: async (_id: string, port: number, signal: AbortSignal): Promise<Duplex> => {
      const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
      try {
        await once(socket, 'connect', { signal });
      } catch (cause) {
        socket.destroy();
        throw new CaissonError('unavailable', `nobody listens on port ${port}`, { cause });
      }
      forwarded.add(socket);
      socket.on('close', () => forwarded.delete(socket));
      return socket;
    },
  };
}

/** The guest's SFTP server, in this machine's own root; HOME says where it begins. */
const SFTP = { command: [process.execPath, join(import.meta.dirname, 'sftp-server.ts')] };

async function start(
  command: readonly string[],
  wanted: StreamsWanted,
  env: Readonly<Record<string, string>> = {},
): Promise<ChildProcess> {
  const [file = '', ...args] = command;
  const pipe = (is: boolean) => (is ? ('pipe' as const) : ('ignore' as const));
  const child = spawn(file, args, {
    stdio: [pipe(wanted.stdin), pipe(wanted.stdout), pipe(wanted.stderr)],
    detached: true,
    env: { ...process.env, ...env },
  });
  try {
    await once(child, 'spawn');
  } catch (cause) {
    throw new CaissonError('not_found', `executable file ${file} not found in $PATH`, { cause });
  }
  child.unref();
  return child;
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended since
  }
}

function branch(source: Readable): PassThrough {
  const end = new PassThrough();
  source.pipe(end);
  end.on('close', () => source.unpipe(end));
  return end;
}

/** What leaves without ending the container's standard input; `end()` does end it. */
function ownEnd(sink: Writable): PassThrough {
  const end = new PassThrough();
  end.pipe(sink);
  end.on('close', () => end.unpipe(sink));
  return end;
}
