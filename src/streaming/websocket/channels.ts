import type { RawData, WebSocket } from 'ws';
import { describeError } from '../../lib/errors.ts';
import { Channel } from '../channel.ts';
import { goneSignal, PAUSED_PING_MS, REFUSED_CLIENT_MS, type ConnectionOptions } from '../connection.ts';
import { watchIdle, type IdleWatch } from '../idle.ts';
import type { ChannelProtocol } from './protocols.ts';

const CLOSE_SIGNAL = 0xff;
const ASCII_ZERO = 0x30;
const NORMAL_CLOSURE = 1000;
const GOING_AWAY = 1001;
const PROTOCOL_ERROR = 1002;
/** `bytes` of one message to the client */
const MAX_MESSAGE = 256 * 1024;

/** Byte streams that share a WebSocket: each message is a channel's number and a piece of its bytes. */
export class ChannelSocket implements AsyncDisposable {
  /** aborted when the connection is over */
  readonly gone: AbortSignal;
  readonly #abort: () => void;
  readonly #socket: WebSocket;
  readonly #protocol: ChannelProtocol;
  readonly #options: ConnectionOptions;
  readonly #idle: IdleWatch;
  readonly #channels = new Map<number, Channel>();
  readonly #closed: Promise<void>;
  #fullChannels = 0;
  #failed = false;
  #finishing = false;
  #pinging: NodeJS.Timeout | undefined;

  constructor(socket: WebSocket, protocol: ChannelProtocol, options: ConnectionOptions) {
    const { gone, abort } = goneSignal();
    this.gone = gone;
    this.#abort = abort;
    this.#socket = socket;
    this.#protocol = protocol;
    this.#options = options;
    this.#idle = watchIdle(options.idleTimeoutMs, () => this.#fail(`idle for ${options.idleTimeoutMs} ms`, GOING_AWAY));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    const close = (): void => {
      this.#release();
      resolve();
    };
    socket.on('message', (data) => this.#message(asBuffer(data)));
    socket.on('ping', () => this.#pinged());
    socket.on('pong', () => this.#idle.touch());
    socket.on('error', (error) => this.#fail(describeError(error)));
    if (socket.readyState === socket.CLOSED) close();
    else socket.on('close', close);
  }

  open(id: number): Channel {
    const channel = new Channel({
      send: (chunk, done) => this.send(id, chunk, done),
      // only clients end channels by themselves
      sendEnd: (done) => done(),
      full: (isFull) => this.#setFull(isFull),
      closed: () => this.#channels.delete(id),
    });
    this.#channels.set(id, channel);
    return channel;
  }

  /** Calls back when the connection has taken it. */
  send(id: number, chunk: Buffer, done: (error?: Error) => void): void {
    const last = Math.max(0, Math.ceil(chunk.length / MAX_MESSAGE) - 1);
    for (let i = 0; i <= last; i++) {
      const part = chunk.subarray(i * MAX_MESSAGE, (i + 1) * MAX_MESSAGE);
      this.#socket.send(this.#encode(id, part), { binary: !this.#protocol.base64 }, (error) => {
        if (i < last) return;
        this.#idle.touch();
        done(error);
      });
    }
  }

  /** Over in good order, behind the last message that was sent; waits for the client to read it. */
  async finish(): Promise<void> {
    this.#finishing = true;
    this.#socket.close(NORMAL_CLOSURE);
    await this.#closed;
  }

  /** At once, whatever the state. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.terminate();
    await this.#closed;
  }

  #encode(id: number, part: Buffer): Buffer {
    if (this.#protocol.base64) return Buffer.from(`${String.fromCharCode(ASCII_ZERO + id)}${part.toString('base64')}`);
    const message = Buffer.allocUnsafe(1 + part.length);
    message.writeUInt8(id);
    part.copy(message, 1);
    return message;
  }

  #message(message: Buffer): void {
    if (this.#failed) return;
    this.#idle.touch();
    const [first] = message;
    if (first === undefined) return;
    const payload = message.subarray(1);
    if (this.#protocol.closeSignal && first === CLOSE_SIGNAL) {
      const [id] = payload;
      if (payload.length !== 1 || id === undefined) this.#fail('a close signal that names no channel');
      else this.#channels.get(id)?.receiveEnd();
      return;
    }
    // what is for nobody is dropped: clients send sizes for commands without a terminal
    const channel = this.#channels.get(this.#protocol.base64 ? first - ASCII_ZERO : first);
    channel?.receive(this.#protocol.base64 ? Buffer.from(payload.toString('latin1'), 'base64') : payload);
  }

  /** ws has answered the ping, or has ended a connection on which too many answers wait. */
  #pinged(): void {
    this.#idle.touch();
    if (this.#socket.readyState !== this.#socket.OPEN && !this.#finishing) {
      this.#fail('many pings, whose answers it does not read');
    }
  }

  #setFull(isFull: boolean): void {
    this.#fullChannels += isFull ? 1 : -1;
    if (this.#fullChannels > 0) {
      this.#socket.pause();
      this.#pinging ??= setInterval(() => this.#socket.ping(), PAUSED_PING_MS).unref();
    } else {
      clearInterval(this.#pinging);
      this.#pinging = undefined;
      this.#socket.resume();
    }
  }

  #fail(reason: string, code = PROTOCOL_ERROR): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#options.log.warn({ reason }, 'closing the connection of a streaming client');
    this.#release();
    this.#socket.close(code);
    const timer = setTimeout(() => this.#socket.terminate(), REFUSED_CLIENT_MS);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  #release(): void {
    this.#idle.stop();
    this.#abort();
    for (const channel of this.#channels.values()) channel.receiveDrop();
    clearInterval(this.#pinging);
  }
}

/** ws hands messages over in one Buffer, unless it is told otherwise. */
function asBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
