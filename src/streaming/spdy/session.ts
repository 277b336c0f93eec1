import type { Duplex } from 'node:stream';
import { describeError } from '../../lib/errors.ts';
import { Channel } from '../channel.ts';
import {
  CLIENT_CLOSES_MS,
  goneSignal,
  PAUSED_PING_MS,
  REFUSED_CLIENT_MS,
  SLOW_READER_MS,
  type ConnectionOptions,
} from '../connection.ts';
import { watchIdle, type IdleWatch } from '../idle.ts';
import {
  dataHeader,
  goAway,
  GoAwayStatus,
  MAX_DATA_BYTES,
  ping,
  ResetStatus,
  rstStream,
  synReply,
  type ControlFrame,
} from './frames.ts';
import { HeaderEncoder } from './headers.ts';
import { FrameParser } from './parser.ts';

/** `bytes` of answers to a client that asks (pings) and does not read them */
const MAX_UNREAD_ANSWERS = 64 * 1024;

export interface SpdyOptions extends ConnectionOptions {
  /** at the same time; more are refused */
  readonly maxStreams: number;
  /** Takes a stream that the client opens, or returns why not. */
  readonly onStream: (stream: Channel, headers: ReadonlyMap<string, string>, id: number) => ResetStatus | undefined;
}

/**
 * The server's side of a SPDY/3.1 connection. There are no windows, as Kubernetes' clients know none: a stream that is
 * not read stops the whole connection, and what is written waits until the connection takes it.
 */
export class SpdySession implements AsyncDisposable {
  /** aborted when the connection is over */
  readonly gone: AbortSignal;
  readonly #abort: () => void;
  readonly #transport: Duplex;
  readonly #options: SpdyOptions;
  readonly #idle: IdleWatch;
  readonly #parser: FrameParser;
  readonly #replyHeaders = new HeaderEncoder();
  readonly #streams = new Map<number, Channel>();
  readonly #closed: Promise<void>;
  #lastStreamId = 0;
  #waiting: ((error?: Error) => void)[] = [];
  #unreadAnswers = 0;
  #fullStreams = 0;
  #pinging: NodeJS.Timeout | undefined;
  #nextPingId = 2;
  #clientLeaves = false;
  #ending = false;
  /** nothing more is parsed */
  #failed = false;

  constructor(transport: Duplex, options: SpdyOptions) {
    const { gone, abort } = goneSignal();
    this.gone = gone;
    this.#abort = abort;
    this.#transport = transport;
    this.#options = options;
    this.#idle = watchIdle(options.idleTimeoutMs, () => this.#fail(`idle for ${options.idleTimeoutMs} ms`));
    this.#parser = new FrameParser({
      data: (id, chunk) => this.#data(id, chunk),
      dataEnd: (id) => this.#streams.get(id)?.receiveEnd(),
      control: (frame) => this.#control(frame),
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    transport.on('data', (chunk: Buffer) => this.#receive(chunk));
    transport.on('drain', () => this.#drained());
    // of a WebSocket below
    transport.on('alive', () => this.#idle.touch());
    transport.on('error', (err) => options.log.debug({ err }, 'the connection of a streaming client failed'));
    transport.on('end', () => this.#end());
    const close = (): void => {
      this.#release();
      resolve();
    };
    if (transport.closed) close();
    else transport.on('close', close);
  }

  /** Over in good order: waits for the client to close, then closes. Call it when all streams have ended. */
  async finish(): Promise<void> {
    const hurry = setTimeout(() => {
      this.#answer(goAway(this.#lastStreamId, GoAwayStatus.ok));
      this.#transport.end();
    }, CLIENT_CLOSES_MS);
    const giveUp = setTimeout(() => this.#transport.destroy(), SLOW_READER_MS);
    await this.#closed;
    clearTimeout(hurry);
    clearTimeout(giveUp);
  }

  /** At once, whatever the state. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#transport.destroy();
    await this.#closed;
  }

  #receive(chunk: Buffer): void {
    if (this.#failed) return;
    this.#idle.touch();
    try {
      this.#parser.push(chunk);
    } catch (error) {
      this.#fail(describeError(error));
    }
  }

  #data(id: number, chunk: Buffer): void {
    if (this.#failed) return;
    const stream = this.#streams.get(id);
    if (stream) stream.receive(chunk);
    // one that is over may still have data under way
    else if (id > this.#lastStreamId) this.#fail(`data of stream ${id}, which is not open`);
  }

  #control(frame: ControlFrame): void {
    if (this.#failed) return;
    switch (frame.type) {
      case 'synStream':
        this.#open(frame.streamId, frame.headers, frame.fin);
        return;
      case 'synReply':
        this.#fail('a reply, though the server opens no stream');
        return;
      case 'headers':
        if (frame.fin) this.#streams.get(frame.streamId)?.receiveEnd();
        return;
      case 'rstStream':
        this.#streams.get(frame.streamId)?.receiveDrop();
        return;
      case 'ping':
        // even ones are our own, coming back
        if (frame.id % 2 === 1) this.#answer(ping(frame.id));
        return;
      case 'goAway':
        this.#clientLeaves = true;
        this.#endWithoutStreams();
        return;
      case 'other':
        return;
    }
  }

  #open(id: number, headers: ReadonlyMap<string, string>, fin: boolean): void {
    if (id % 2 === 0 || id <= this.#lastStreamId) {
      this.#fail(`a stream ${id} after stream ${this.#lastStreamId}`);
      return;
    }
    this.#lastStreamId = id;
    if (this.#streams.size >= this.#options.maxStreams || this.#clientLeaves) {
      this.#answer(rstStream(id, ResetStatus.refusedStream));
      return;
    }
    const stream = this.#channel(id);
    this.#streams.set(id, stream);
    const refusal = this.#options.onStream(stream, headers, id);
    if (refusal !== undefined) {
      this.#answer(rstStream(id, refusal));
      stream.receiveDrop();
      return;
    }
    this.#answer(synReply(id, this.#replyHeaders.encode()));
    if (fin) stream.receiveEnd();
  }

  #channel(id: number): Channel {
    return new Channel({
      send: (chunk, done) => this.#sendData(id, chunk, done),
      sendEnd: (done) => this.#send([dataHeader(id, 0, true)], done),
      full: (isFull) => this.#setFull(isFull),
      closed: (clean) => {
        this.#streams.delete(id);
        if (!clean && !this.#transport.destroyed) this.#answer(rstStream(id, ResetStatus.cancel));
        this.#endWithoutStreams();
      },
    });
  }

  #sendData(id: number, chunk: Buffer, done: (error?: Error) => void): void {
    const parts: Buffer[] = [];
    for (let at = 0; at < chunk.length; at += MAX_DATA_BYTES) {
      const part = chunk.subarray(at, at + MAX_DATA_BYTES);
      parts.push(dataHeader(id, part.length, false), part);
    }
    this.#send(parts, done);
  }

  #send(parts: readonly Buffer[], done: (error?: Error) => void): void {
    const transport = this.#transport;
    if (transport.destroyed || transport.writableEnded) {
      done(new Error('the connection is closed'));
      return;
    }
    transport.cork();
    for (const part of parts) transport.write(part);
    transport.uncork();
    if (transport.writableNeedDrain) this.#waiting.push(done);
    else this.#sent(done);
  }

  #sent(done: (error?: Error) => void): void {
    this.#idle.touch();
    done();
  }

  #drained(): void {
    this.#unreadAnswers = 0;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const done of waiting) this.#sent(done);
  }

  /** Small frames that wait for nothing. */
  #answer(frame: Buffer): void {
    const transport = this.#transport;
    if (transport.destroyed || transport.writableEnded) return;
    transport.write(frame);
    if (!transport.writableNeedDrain) return;
    this.#unreadAnswers += frame.length;
    if (this.#unreadAnswers > MAX_UNREAD_ANSWERS)
      this.#fail('many frames that ask for answers, which it does not read');
  }

  #setFull(isFull: boolean): void {
    this.#fullStreams += isFull ? 1 : -1;
    if (this.#fullStreams > 0) {
      this.#transport.pause();
      this.#pinging ??= setInterval(() => this.#answer(ping(this.#takePingId())), PAUSED_PING_MS).unref();
    } else {
      clearInterval(this.#pinging);
      this.#pinging = undefined;
      this.#transport.resume();
    }
  }

  #takePingId(): number {
    const id = this.#nextPingId;
    this.#nextPingId = (id + 2) % 0x7f_ff_ff_fe || 2;
    return id;
  }

  #endWithoutStreams(): void {
    if (this.#clientLeaves && this.#streams.size === 0) this.#transport.end();
  }

  /** The client closed its side: nobody keeps half a connection. */
  #end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#abort();
    for (const stream of this.#streams.values()) stream.receiveDrop();
    this.#transport.end();
    this.#destroySoon();
  }

  #fail(reason: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#options.log.warn({ reason }, 'closing the connection of a streaming client');
    if (!this.#transport.destroyed && !this.#transport.writableEnded) {
      this.#transport.write(goAway(this.#lastStreamId, GoAwayStatus.protocolError));
    }
    this.#end();
  }

  #destroySoon(): void {
    const timer = setTimeout(() => this.#transport.destroy(), REFUSED_CLIENT_MS);
    this.#transport.once('close', () => clearTimeout(timer));
  }

  #release(): void {
    this.#failed = true;
    this.#idle.stop();
    clearInterval(this.#pinging);
    this.#abort();
    for (const stream of this.#streams.values()) stream.receiveDrop();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const done of waiting) done(new Error('the connection is closed'));
  }
}
