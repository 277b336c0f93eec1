/** The client's side of a command's streams: channels in a WebSocket, version 5, in which input can end. */
import { Writable, type Readable } from 'node:stream';
import type { WebSocket } from 'ws';
import { CaissonError } from '../../lib/errors.ts';
import type { TerminalSize } from '../../pod/contracts.ts';
import { parseStatus, type CommandEnd } from './status.ts';

export const COMMAND_PROTOCOL = 'v5.channel.k8s.io';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;
const CLOSE_SIGNAL = 0xff;
/** `bytes` of a status, whose words come from the guest */
const MAX_STATUS = 64 * 1024;

export interface LocalEnds {
  readonly stdin: Readable | undefined;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Calls back with the terminal's size, now and whenever it changes, until it is disposed of. */
  readonly watchSize?: (tell: (size: TerminalSize) => void) => Disposable;
}

/**
 * Carries bytes until the command has ended and its output is written. Undefined when `leave` aborted first. Throws
 * `unavailable` when the connection is lost.
 */
export async function joinCommand(
  socket: WebSocket,
  ends: LocalEnds,
  leave: AbortSignal,
): Promise<CommandEnd | undefined> {
  const status = receive(socket, ends);
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.once('close', () => resolve());
  const left = (): void => socket.terminate();
  leave.addEventListener('abort', left, { once: true });
  if (leave.aborted) left();
  const input = inputOf(socket);
  ends.stdin?.on('error', () => input.end());
  ends.stdin?.pipe(input);
  {
    using watch = ends.watchSize?.((size) => sendSize(socket, size));
    void watch;
    socket.resume();
    await closed;
  }
  ends.stdin?.unpipe(input);
  leave.removeEventListener('abort', left);
  if (leave.aborted) return undefined;
  await Promise.all([flushed(ends.stdout), flushed(ends.stderr)]);
  const text = Buffer.concat(status).toString();
  if (text === '') throw new CaissonError('unavailable', 'the connection was lost before the command ended');
  return parseStatus(text);
}

/** Output goes to its stream; while one of them takes no more, nothing is read. Returns the status as it grows. */
function receive(socket: WebSocket, { stdout, stderr }: LocalEnds): readonly Buffer[] {
  const status: Buffer[] = [];
  let statusBytes = 0;
  const full = new Set<Writable>();
  const write = (sink: Writable, data: Buffer): void => {
    if (sink.write(data) || full.has(sink)) return;
    full.add(sink);
    socket.pause();
    sink.once('drain', () => {
      full.delete(sink);
      if (full.size === 0) socket.resume();
    });
  };
  socket.on('message', (message: Buffer) => {
    const data = message.subarray(1);
    if (message[0] === STDOUT) write(stdout, data);
    else if (message[0] === STDERR) write(stderr, data);
    else if (message[0] === ERROR && statusBytes < MAX_STATUS) {
      statusBytes += data.length;
      status.push(data);
    }
  });
  return status;
}

/** Its end is the end of the command's input; what comes after the command's end is dropped. */
function inputOf(socket: WebSocket): Writable {
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => socket.send(Buffer.concat([Buffer.of(STDIN), chunk]), () => done()),
    final: (done) => socket.send(Buffer.of(CLOSE_SIGNAL, STDIN), () => done()),
  });
}

function sendSize(socket: WebSocket, { columns, rows }: TerminalSize): void {
  const size = Buffer.from(JSON.stringify({ Width: columns, Height: rows }));
  socket.send(Buffer.concat([Buffer.of(RESIZE), size]), () => undefined);
}

async function flushed(sink: Writable): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  sink.write('', () => resolve());
  await promise;
}
