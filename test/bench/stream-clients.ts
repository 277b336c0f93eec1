/** Clients of streaming URLs: client-go, which kubectl and crictl are made of. And OpenSSH's ssh. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';

const STREAMS = join(import.meta.dirname, '../../.cache/bin/streams');

export type Transport = 'spdy' | 'websocket';

/** What both peers know: containerd has no version 5 of the WebSocket channels, which client-go asks for by itself. */
const PROTOCOLS: Readonly<Record<Transport, string>> = { spdy: '', websocket: 'v4.channel.k8s.io' };

/** A command whose output goes nowhere; returns when it has ended. */
export async function drain(transport: Transport, url: string, signal: AbortSignal): Promise<void> {
  await succeeded(startDrain(transport, url, signal));
}

/** As `drain`, for a command that does not end: kill it. */
export function startDrain(transport: Transport, url: string, signal: AbortSignal): ChildProcess {
  const args = ['run', '-transport', transport, '-protocols', PROTOCOLS[transport], url];
  return ended(spawn(STREAMS, args, { stdio: ['ignore', 'ignore', 'inherit'] }), signal);
}

/** With `signal`; the option of that name would make an error of it that has no place to go to. */
function ended<Child extends ChildProcess>(child: Child, signal: AbortSignal): Child {
  const kill = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  child.once('exit', () => signal.removeEventListener('abort', kill));
  return child;
}

export async function succeeded(child: ChildProcess): Promise<void> {
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`the client ended with code ${code}`);
}

/** Into a terminal; `ms` from each key to its echo. */
export async function typeKeys(
  transport: Transport,
  url: string,
  keys: number,
  signal: AbortSignal,
): Promise<number[]> {
  return await typeInto(STREAMS, ['run', '-transport', transport, '-tty', '-stdin', url], keys, signal);
}

/** Whom to enter: a file of OpenSSH's and a name in it. */
export interface SshTarget {
  readonly config: string;
  readonly host: string;
}

const sshArguments = ({ config, host }: SshTarget): string[] => [
  ...['-F', config, '-o', 'BatchMode=yes', '-o', 'LogLevel=ERROR'],
  host,
];

/** As `drain`, through the ssh gateway. */
export async function drainSsh(target: SshTarget, command: string, signal: AbortSignal): Promise<void> {
  const args = [...sshArguments(target), command];
  await succeeded(ended(spawn('ssh', args, { stdio: ['ignore', 'ignore', 'inherit'] }), signal));
}

/** As `typeKeys`, through the ssh gateway. */
export async function typeKeysSsh(target: SshTarget, keys: number, signal: AbortSignal): Promise<number[]> {
  return await typeInto('ssh', ['-tt', ...sshArguments(target), 'exec cat'], keys, signal);
}

async function typeInto(
  program: string,
  args: readonly string[],
  keys: number,
  signal: AbortSignal,
): Promise<number[]> {
  const client = ended(spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] }), signal);
  const times: number[] = [];
  try {
    for (let i = -1; i < keys; i++) {
      const started = performance.now();
      client.stdin.write('x');
      await once(client.stdout, 'data', { signal });
      // before the first one the command has to start
      if (i >= 0) times.push(performance.now() - started);
    }
  } finally {
    client.kill();
  }
  return times;
}

export interface Forwarding extends AsyncDisposable {
  readonly localPort: number;
}

export async function forwarding(
  transport: Transport,
  url: string,
  port: number,
  signal: AbortSignal,
): Promise<Forwarding> {
  const args = ['forward', '-transport', transport, url, String(port)];
  const client = ended(spawn(STREAMS, args, { stdio: ['pipe', 'pipe', 'pipe'] }), signal);
  const over = once(client, 'exit');
  const [line] = (await once(client.stdout, 'data', { signal })) as [Buffer];
  client.stdout.resume();
  client.stderr.resume();
  return {
    localPort: Number(line.toString().split(' ')[0]),
    [Symbol.asyncDispose]: async () => {
      client.stdin.end();
      client.kill();
      await over;
    },
  };
}

/** Reads a connection to its end; returns how many bytes came. */
export async function readAll(port: number, signal: AbortSignal): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
  try {
    await once(socket, 'close', { signal });
    return bytes;
  } finally {
    socket.destroy();
  }
}

/** A command that reads so many zero bytes. */
export async function feed(transport: Transport, url: string, bytes: number, signal: AbortSignal): Promise<void> {
  const script = `head -c ${bytes} /dev/zero | "$0" run -transport ${transport} -stdin "$1"`;
  await succeeded(ended(spawn('sh', ['-c', script, STREAMS, url], { stdio: ['ignore', 'ignore', 'inherit'] }), signal));
}
