/**
 * The client's side of one forwarded connection: a pair of SPDY streams, alone in a WebSocket. So each connection has
 * half-close, and one that is not read holds up no other.
 */
import { text } from 'node:stream/consumers';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { Channel } from '../../streaming/channel.ts';
import { dataHeader, ping, rstStream, ResetStatus, synStream } from '../../streaming/spdy/frames.ts';
import type { ControlFrame } from '../../streaming/spdy/frames.ts';
import { HeaderEncoder } from '../../streaming/spdy/headers.ts';
import { FrameParser } from '../../streaming/spdy/parser.ts';
import { TUNNEL_PROTOCOL } from '../../streaming/websocket/protocols.ts';
import { WebSocketTunnel } from '../../streaming/websocket/tunnel.ts';

export const FORWARD_PROTOCOL = TUNNEL_PROTOCOL;

const ERROR_STREAM = 1;
const DATA_STREAM = 3;

export interface Forwarded {
  /** closes before its end when the connection is lost */
  readonly data: Duplex;
  /** what the daemon says went wrong; empty when nothing did */
  readonly problem: Promise<string>;
}

/** Ends with its `data`. */
export function forwardOver(socket: WebSocket, port: number): Forwarded {
  const transport = new WebSocketTunnel(socket);
  const error = channelOf(transport, ERROR_STREAM);
  const data = channelOf(transport, DATA_STREAM);
  const channels = new Map([
    [ERROR_STREAM, error],
    [DATA_STREAM, data],
  ]);
  const drop = (): void => channels.forEach((channel) => channel.receiveDrop());
  const parser = new FrameParser({
    data: (id, chunk) => channels.get(id)?.receive(chunk),
    dataEnd: (id) => channels.get(id)?.receiveEnd(),
    control: (frame) => control(frame, transport, channels),
  });
  transport.on('data', (chunk: Buffer) => {
    try {
      parser.push(chunk);
    } catch (cause) {
      transport.destroy(cause instanceof Error ? cause : new Error(String(cause)));
    }
  });
  // shows in the channels, which close
  transport.on('error', () => undefined);
  transport.on('end', drop);
  transport.on('close', drop);
  data.once('close', () => transport.end());
  open(transport, port);
  // this side says nothing on it
  error.end();
  return { data, problem: text(error).catch(() => '') };
}

function open(transport: Duplex, port: number): void {
  const headers = new HeaderEncoder();
  const common = { port: String(port), requestid: '0' };
  transport.write(synStream(ERROR_STREAM, headers.encode({ streamtype: 'error', ...common })));
  transport.write(synStream(DATA_STREAM, headers.encode({ streamtype: 'data', ...common })));
}

function channelOf(transport: Duplex, id: number): Channel {
  const send = (part: Buffer, done: (error?: Error) => void): void => {
    if (transport.destroyed || transport.writableEnded) done(new Error('the connection is closed'));
    else transport.write(part, (error) => done(error ?? undefined));
  };
  return new Channel({
    // what a socket hands on is far below a frame's limit
    send: (chunk, done) => send(Buffer.concat([dataHeader(id, chunk.length, false), chunk]), done),
    sendEnd: (done) => send(dataHeader(id, 0, true), done),
    full: (isFull) => (isFull ? transport.pause() : transport.resume()),
    closed: (clean) => {
      if (!clean) send(rstStream(id, ResetStatus.cancel), () => undefined);
    },
  });
}

function control(frame: ControlFrame, transport: Duplex, channels: ReadonlyMap<number, Channel>): void {
  switch (frame.type) {
    case 'rstStream':
      channels.get(frame.streamId)?.receiveDrop();
      return;
    case 'headers':
      if (frame.fin) channels.get(frame.streamId)?.receiveEnd();
      return;
    case 'ping':
      // even ones are the daemon's
      if (frame.id % 2 === 0) transport.write(ping(frame.id));
      return;
    case 'goAway':
      transport.end();
      return;
    case 'synStream':
    case 'synReply':
    case 'other':
      return;
  }
}
