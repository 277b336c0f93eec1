import type { WebSocket } from 'ws';
import type { StreamsWanted } from '../../pod/contracts.ts';
import type { ConnectionOptions } from '../connection.ts';
import type { CommandEnds } from '../remote-command.ts';
import { statusJson, statusText, type Outcome } from '../status.ts';
import { ChannelSocket } from './channels.ts';
import type { ChannelProtocol } from './protocols.ts';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;

export interface CommandOptions extends ConnectionOptions {
  readonly protocol: ChannelProtocol;
  readonly streams: StreamsWanted & { readonly tty: boolean };
  readonly run: (ends: CommandEnds) => Promise<Outcome>;
}

/** Serves one command; its streams need no opening. */
export async function serveCommand(webSocket: WebSocket, options: CommandOptions): Promise<Outcome | undefined> {
  const { protocol, streams, run } = options;
  await using socket = new ChannelSocket(webSocket, protocol, options);
  const ends = {
    stdin: streams.stdin ? socket.open(STDIN) : undefined,
    stdout: streams.stdout ? socket.open(STDOUT) : undefined,
    stderr: streams.stderr ? socket.open(STDERR) : undefined,
    resize: streams.tty ? socket.open(RESIZE) : undefined,
    gone: socket.gone,
  };
  // what goes out only; what comes in on them is dropped
  ends.stdout?.resume();
  ends.stderr?.resume();
  // clients may wait for a first message on the lowest channel that they can read
  await send(socket, ends.stdout ? STDOUT : ends.stderr ? STDERR : ERROR, Buffer.alloc(0));
  const outcome = await run(ends);
  if (socket.gone.aborted) return undefined;
  await Promise.all([flush(ends.stdout), flush(ends.stderr)]);
  const status = protocol.jsonStatus ? statusJson(outcome) : statusText(outcome);
  if (status.length > 0) await send(socket, ERROR, status);
  await socket.finish();
  return outcome;
}

/** Settles also when the client is gone, which shows elsewhere. */
function send(socket: ChannelSocket, channel: number, payload: Buffer): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.send(channel, payload, () => resolve());
  return promise;
}

async function flush(channel: NodeJS.WritableStream | undefined): Promise<void> {
  if (!channel) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.on('close', resolve);
  channel.end(resolve);
  await promise;
}
