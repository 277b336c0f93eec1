/** Clients of streaming URLs: client-go, which kubectl and crictl are made of. */
import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process';
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
  return spawn(STREAMS, args, { stdio: ['ignore', 'ignore', 'inherit'], signal });
}

export async function succeeded(child: ChildProcess): Promise<void> {
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`the client ended with code ${code}`);
}

/** `ms` from each key to its echo. */
export async function typeKeys(
  transport: Transport,
  url: string,
  keys: number,
  signal: AbortSignal,
): Promise<number[]> {
  const args = ['run', '-transport', transport, '-tty', '-stdin', url];
  const client = spawn(STREAMS, args, { stdio: ['pipe', 'pipe', 'inherit'], signal });
  const times: number[] = [];
  try {
    for (let i = -1; i < keys; i++) {
      const started = performance.now();
      // a line that grows for ever would fill the terminal's buffer
      client.stdin.write(i % 100 === 99 ? '\n' : 'x');
      await once(client.stdout, 'data', { signal });
      if (i % 100 === 99) await once(client.stdout, 'data', { signal });
      else if (i >= 0) times.push(performance.now() - started);
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
  const client: ChildProcessWithoutNullStreams = spawn(
    STREAMS,
    ['forward', '-transport', transport, url, String(port)],
    { stdio: ['pipe', 'pipe', 'pipe'], signal },
  );
  const ended = once(client, 'exit');
  const [line] = (await once(client.stdout, 'data', { signal })) as [Buffer];
  client.stdout.resume();
  client.stderr.resume();
  return {
    localPort: Number(line.toString().split(' ')[0]),
    [Symbol.asyncDispose]: async () => {
      client.stdin.end();
      client.kill();
      await ended;
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
  await succeeded(spawn('sh', ['-c', script, STREAMS, url], { stdio: ['ignore', 'ignore', 'inherit'], signal }));
}
