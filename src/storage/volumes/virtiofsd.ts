import { chmod, chown, mkdir, readFile, readlink } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { orAborted, withTimeout } from '../../lib/async.ts';
import { CaissonError } from '../../lib/errors.ts';
import { tail } from '../../lib/exec.ts';
import { makeFifo, openFifoBothWays, readFifo } from '../../lib/fifo.ts';
import { ignoreMissing } from '../../lib/files.ts';
import { inMountNamespace } from '../../lib/mount-namespace.ts';
import { findProcesses, killProcess, startDetached, startTicks, type ProcessIdentity } from '../../lib/processes.ts';
import { listenUnix } from '../../lib/unix-listener.ts';

/** Of one pod's share. All is root's; QEMU's user reaches the socket and nothing else. */
export const sharePaths = (directory: string) => ({
  share: `${directory}/share`,
  socket: `${directory}/fs.sock`,
  /** virtiofsd writes its words to it; when it has ended, so has the FIFO */
  words: `${directory}/words`,
});

/**
 * A running virtiofsd. It is two processes: one that waits, and one in a mount namespace in which nothing but the share
 * can be seen. Volumes are mounted there and nowhere else, so they are gone when it is.
 */
export interface Virtiofsd {
  readonly processes: readonly ProcessIdentity[];
  /** of the sandboxed process */
  readonly pid: number;
  readonly namespace: FileHandle;
  /** resolves with its last words when it has ended */
  readonly exited: Promise<string>;
  /** stops listening for its end; it goes on */
  readonly forget: () => Promise<void>;
}

/** Printed when it is in its sandbox. */
const READY_MARK = 'Waiting for vhost-user socket connection';
const START_TIMEOUT_MS = 20_000;
const GONE_TIMEOUT_MS = 10_000;
const MAX_WORDS = 4096;

/** Guests open many files; each is a descriptor, and kernel memory, here. */
const MAX_OPEN_FILES = 262_144;

/** Starts it on an empty share; `uid` may connect, once. */
export async function startVirtiofsd(
  program: string,
  directory: string,
  uid: number,
  signal: AbortSignal,
): Promise<Virtiofsd> {
  if (!existsSync(program)) {
    throw new CaissonError('failed_precondition', `${program} is not installed: pods cannot have volumes`, {
      hint: 'run bin/setup',
    });
  }
  const path = sharePaths(directory);
  await mkdir(directory, { mode: 0o711 });
  await mkdir(path.share, { mode: 0o700 });
  makeFifo(path.words);
  using listener = listenUnix(path.socket);
  await chown(path.socket, uid, uid);
  await chmod(path.socket, 0o600);
  const words = new Words(readFifo(path.words));
  try {
    const started = await launch(program, path, listener.fd);
    try {
      await orAborted(withTimeout(words.ready, START_TIMEOUT_MS, `the start of ${program}`), signal);
      return await takeOver([started.identity, await childOf(started.identity)], words);
    } catch (error) {
      await killProcess(started.identity);
      throw error;
    }
  } catch (error) {
    words.close();
    throw error;
  }
}

async function launch(program: string, path: ReturnType<typeof sharePaths>, listener: number) {
  // closed here as soon as virtiofsd has it: the FIFO ends with the last writer
  using output = openFifoBothWays(path.words);
  const commandLine = daemonArguments(path.share, await openFilesLimit());
  return await startDetached(program, commandLine, output.fd, [listener]);
}

/** One that an earlier daemon has started; undefined when it is no more. */
export async function findVirtiofsd(directory: string): Promise<Virtiofsd | undefined> {
  const processes = await processesOf(directory);
  if (processes.length < 2) return undefined;
  return takeOver(processes, new Words(readFifo(sharePaths(directory).words)));
}

/** Returns when none of the share is left, whoever started it. */
export async function killVirtiofsd(directory: string): Promise<void> {
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  for (;;) {
    const processes = await processesOf(directory);
    if (processes.length === 0) return;
    if (Date.now() > deadline) throw new CaissonError('internal', `virtiofsd of ${directory} does not die of SIGKILL`);
    await Promise.all(processes.map(killProcess));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * `cache=auto`: what is written is on the host when the write returns; the guest caches data until it opens a file
 * again and names for a second. Without a cache nothing could be mapped, and every read would leave the guest.
 * CAP_MKNOD: a guest could leave device nodes in a volume, for others on the host to open. CAP_SETFCAP is for extended
 * attributes, which are not served.
 */
const daemonArguments = (share: string, openFiles: number): string[] => [
  ...['--fd', '3', '--shared-dir', share, '--sandbox', 'namespace', '--seccomp', 'kill'],
  ...['--modcaps=-mknod:-setfcap', '--cache', 'auto', '--announce-submounts'],
  ...['--rlimit-nofile', String(openFiles), '--log-level', 'info'],
];

/** Without the privilege to raise the limit, it is what it is. */
async function openFilesLimit(): Promise<number> {
  const hard = Number(
    /^Max open files\s+\S+\s+(\d+)/m.exec(await readFile('/proc/self/limits', 'utf8'))?.[1] ?? Infinity,
  );
  return Math.min(hard, MAX_OPEN_FILES);
}

const processesOf = (directory: string): Promise<ProcessIdentity[]> =>
  findProcesses((line) => line.includes(`--shared-dir ${sharePaths(directory).share} `));

async function childOf({ pid }: ProcessIdentity): Promise<ProcessIdentity> {
  const child = Number((await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim());
  return { pid: child, startTicks: (await startTicks(child)) ?? '' };
}

/** Nothing of the share itself can be changed from inside: a guest writes in writable volumes only. */
async function takeOver(processes: readonly ProcessIdentity[], words: Words): Promise<Virtiofsd> {
  const pid = await sandboxed(processes);
  const namespace = await open(`/proc/${pid}/ns/mnt`, 'r');
  try {
    await inMountNamespace(namespace.fd, [
      {
        do: 'change',
        target: '/',
        change: { set: ['readOnly', 'nosuid', 'nodev', 'noexec', 'nosymfollow'], recursive: false },
      },
    ]);
  } catch (error) {
    await namespace.close();
    throw error;
  }
  const forget = async (): Promise<void> => {
    words.close();
    await namespace.close();
  };
  return { processes, pid, namespace, exited: words.ended, forget };
}

async function sandboxed(processes: readonly ProcessIdentity[]): Promise<number> {
  const ours = await readlink('/proc/self/ns/mnt');
  for (const { pid } of processes) {
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(ignoreMissing(ours));
    if (namespace !== ours) return pid;
  }
  throw new CaissonError('unavailable', 'virtiofsd has ended or is not in its sandbox');
}

/** What it prints: a guest may provoke any amount, so only the end is kept. */
class Words {
  readonly ready: Promise<void>;
  readonly ended: Promise<string>;
  readonly #socket: Socket;
  #text = '';

  constructor(socket: Socket) {
    this.#socket = socket;
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<string>();
    this.ready = ready.promise;
    this.ended = ended.promise;
    this.ready.catch(() => undefined);
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.#text = (this.#text + text).slice(-MAX_WORDS);
      if (this.#text.includes(READY_MARK)) ready.resolve();
    });
    socket.on('error', () => socket.destroy());
    socket.once('end', () => {
      const last = tail(this.#text) || 'it said nothing';
      ready.reject(new CaissonError('internal', `virtiofsd ended at its start: ${last}`));
      ended.resolve(last);
    });
    socket.unref();
  }

  close(): void {
    this.#socket.destroy();
  }
}
