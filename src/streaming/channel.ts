import { Duplex } from 'node:stream';

/** `bytes` that wait for a reader before the connection is paused, each piece counted with its overhead */
const MAX_HELD = 256 * 1024;
const PIECE_OVERHEAD = 128;
/** small pieces are handed on together, up to so many `bytes` */
const COALESCE_BYTES = 16 * 1024;

/** The connection's side of a channel. */
export interface ChannelWires {
  /** calls back when the connection can take more */
  send(chunk: Buffer, done: (error?: Error) => void): void;
  /** says that no more comes from here */
  sendEnd(done: (error?: Error) => void): void;
  /** the channel holds as much as it may (true), or less again: while any is full, read nothing from the client */
  full(isFull: boolean): void;
  /** the channel is over; `clean` when both directions had ended before, or the client has dropped it */
  closed(clean: boolean): void;
}

/**
 * One of the byte streams that share a client's connection. Reading it gives what the client sent, writing to it sends;
 * each direction ends by itself. Never an 'error': a
 * channel that was cut off closes before its end. No protocol of these has windows, so a channel that nobody reads stops the connection.
 */
export class Channel extends Duplex {
  readonly #wires: ChannelWires;
  #held: Buffer[] = [];
  #heldCost = 0;
  #wanted = false;
  #full = false;
  #clientEnded = false;
  #clientDropped = false;

  constructor(wires: ChannelWires) {
    super({ allowHalfOpen: true });
    this.#wires = wires;
  }

  /** Bytes from the client. */
  receive(chunk: Buffer): void {
    if (this.destroyed || this.#clientEnded || chunk.length === 0) return;
    if (this.#wanted && this.#held.length === 0) {
      this.#wanted = this.push(chunk);
      return;
    }
    this.#held.push(chunk);
    this.#heldCost += chunk.length + PIECE_OVERHEAD;
    this.#tellFullness();
  }

  /** The client sends no more. */
  receiveEnd(): void {
    if (this.destroyed || this.#clientEnded) return;
    this.#clientEnded = true;
    if (this.#held.length === 0) this.push(null);
  }

  /** The client has dropped the channel, or is gone itself. */
  receiveDrop(): void {
    this.#clientDropped = true;
    this.destroy();
  }

  override _read(): void {
    this.#wanted = true;
    while (this.#wanted && this.#held.length > 0) this.#wanted = this.push(this.#takeHeld());
    if (this.#held.length === 0 && this.#clientEnded) this.push(null);
    this.#tellFullness();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#wires.send(chunk, this.#unlessFailed(done));
  }

  override _final(done: () => void): void {
    this.#wires.sendEnd(this.#unlessFailed(done));
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#held = [];
    this.#heldCost = 0;
    this.#tellFullness();
    this.#wires.closed(this.#clientDropped || (this.#clientEnded && this.writableFinished));
    done(error);
  }

  /** A connection that is lost is no error of its channels: they close before their end. */
  #unlessFailed(done: () => void): (error?: Error) => void {
    return (error) => {
      if (error) this.destroy();
      else done();
    };
  }

  #takeHeld(): Buffer {
    let bytes = 0;
    let pieces = 0;
    for (const piece of this.#held) {
      if (pieces > 0 && bytes + piece.length > COALESCE_BYTES) break;
      bytes += piece.length;
      pieces++;
    }
    const taken = this.#held.splice(0, pieces);
    this.#heldCost -= bytes + pieces * PIECE_OVERHEAD;
    const [only] = taken;
    return taken.length === 1 && only ? only : Buffer.concat(taken, bytes);
  }

  #tellFullness(): void {
    const full = this.#heldCost > (this.#full ? MAX_HELD / 2 : MAX_HELD);
    if (full === this.#full) return;
    this.#full = full;
    this.#wires.full(full);
  }
}
