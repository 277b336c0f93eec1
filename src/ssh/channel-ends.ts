/** What of ssh2's server channels is safe to use. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Writable } from 'node:stream';
import type { Readable } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { orAborted } from '../lib/async.ts';

/** What ssh2 keeps of a channel and does not declare. */
interface Internals {
  readonly incoming: { readonly window: number; readonly state: 'open' | 'eof' | 'closed' };
  readonly outgoing: { readonly packetSize: number };
  push(chunk: Buffer | null): boolean;
  eof(): void;
  _chunk: unknown;
  _chunkcb: unknown;
  _chunkErr: unknown;
  _chunkcbErr: unknown;
}

/** The connection as far as its channels need it. */
export interface Carrier {
  readonly socket: Socket;
  /** Ends the connection of a client that breaks the rules. */
  fail(why: string): void;
}

const WRITE_BUFFER_BYTES = 64 * 1024;
/** OpenSSH has 32 KiB */
const LEAST_PACKET_BYTES = 1024;

/**
 * The ends of one channel. ssh2 needs help in five matters: it hears of a closed channel only when all input has been
 * read; it takes more than its window from a client that sends it; with output waiting on both streams it mixes them up;
 * it hands to the socket whatever a client's window allows, read or not; and it never ends to write to a client that
 * takes packets of no bytes.
 */
export class ChannelEnds {
  readonly input: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** aborted when the client has closed the channel, or is gone itself */
  readonly gone: AbortSignal;
  bytesIn = 0;
  bytesOut = 0;
  readonly #channel: ServerChannel & Internals;
  readonly #carrier: Carrier;
  readonly #gone = new AbortController();
  #writing: Promise<void> = Promise.resolve();

  constructor(channel: ServerChannel, carrier: Carrier) {
    this.#channel = channel as ServerChannel & Internals;
    this.#carrier = carrier;
    this.gone = this.#gone.signal;
    this.input = channel;
    this.stdout = this.#writer(channel);
    this.stderr = this.#writer(channel.stderr);
    channel.on('error', () => this.#gone.abort());
    channel.on('close', () => this.#gone.abort());
    this.#watchInput();
    if (this.#channel.outgoing.packetSize >= LEAST_PACKET_BYTES) return;
    this.#gone.abort();
    carrier.fail('it takes too small packets only');
  }

  /** No output will follow; input may. */
  eof(): void {
    this.#channel.eof();
  }

  /** After all output: says how a command ended, if it was one, and closes the channel. */
  async close(exit?: { readonly code: number } | { readonly signal: string }): Promise<void> {
    await this.#writing;
    if (!this.gone.aborted) {
      if (exit && 'signal' in exit) this.#channel.exit(exit.signal, false, '');
      else if (exit) this.#channel.exit(exit.code);
    }
    this.#channel.end();
    // ssh2 forgets a channel when its input has been read
    this.#channel.resume();
  }

  #watchInput(): void {
    const channel = this.#channel;
    const push = channel.push.bind(channel);
    channel.push = (chunk) => {
      if (chunk === null) {
        if (channel.incoming.state === 'closed') this.#gone.abort();
        return push(null);
      }
      this.bytesIn += chunk.length;
      if (channel.incoming.window < 0) {
        this.#carrier.fail('it has sent more than a channel takes');
        return false;
      }
      return push(chunk);
    };
  }

  #writer(sink: Writable): Writable {
    return new Writable({
      highWaterMark: WRITE_BUFFER_BYTES,
      write: (data: Buffer, _encoding, done) => {
        const before = this.#writing;
        const written = before.then(() => this.#write(sink, data));
        this.#writing = written;
        void written.then(() => done());
      },
    });
  }

  /** One at a time, and no faster than the client reads. What a client that is gone would have got is dropped. */
  async #write(sink: Writable, data: Buffer): Promise<void> {
    const { gone } = this;
    if (gone.aborted) return;
    try {
      await orAborted(new Promise<void>((resolve) => sink.write(data, () => resolve())), gone);
      this.bytesOut += data.length;
      Object.assign(this.#channel, FORGOTTEN);
      const { socket } = this.#carrier;
      if (socket.writableNeedDrain) await once(socket, 'drain', { signal: gone });
    } catch {
      // gone: whoever waits for the end of the channel is told by its signal
    }
  }
}

/** ssh2 would send what it has sent before once more when the window of the other stream opens. */
const FORGOTTEN = { _chunk: undefined, _chunkcb: undefined, _chunkErr: undefined, _chunkcbErr: undefined };
