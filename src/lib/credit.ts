/** Byte streams within a message stream, each with a credit of its own: proto/agent/v1/agent.proto, StreamRequest. */
import { Readable, Writable } from 'node:stream';
import { CaissonError } from './errors.ts';

/** of what goes to the guest */
export const INPUT_CREDIT_BYTES = 256 * 1024;
/** of what comes from the guest, whose processor does better with fewer and larger messages */
export const OUTPUT_CREDIT_BYTES = 512 * 1024;
const MAX_INPUT_DATA_BYTES = 64 * 1024;
/** so that a flood of tiny messages is bounded, too */
export const MESSAGE_COST_BYTES = 128;
/** Two such messages use the credit up: one is under way while the other is consumed. */
export const MAX_OUTPUT_DATA_BYTES = OUTPUT_CREDIT_BYTES / 2 - MESSAGE_COST_BYTES;
/** a sender whose credit is nearly used up waits for more, instead of sending crumbs */
export const LEAST_DATA_BYTES = 16 * 1024;

export const costOf = (data: Buffer): number => data.length + MESSAGE_COST_BYTES;

/** What the other side sends. Its memory is bounded by the credit, however slowly it is read. */
export class CreditReader extends Readable {
  readonly #grant: (bytes: number) => void;
  readonly #grantBytes: number;
  readonly #queue: Buffer[] = [];
  #credit: number;
  #consumed = 0;
  #wanted = false;
  #ended = false;

  /** `grant` tells the other side how much more than `credit` it may send. */
  constructor(credit: number, grant: (bytes: number) => void) {
    super({ highWaterMark: LEAST_DATA_BYTES });
    this.#credit = credit;
    this.#grantBytes = credit / 4;
    this.#grant = grant;
  }

  /** Takes what came; throws `resource_exhausted` when it is more than was granted. */
  receive(data: Buffer): void {
    this.#credit -= costOf(data);
    if (this.#credit < 0) throw new CaissonError('resource_exhausted', 'more data came than was asked for');
    if (this.#ended || this.destroyed) return this.#consume(data);
    this.#queue.push(data);
    if (this.#wanted) this._read();
  }

  /** Nothing more will come. */
  receiveEnd(): void {
    this.#ended = true;
    if (this.#queue.length === 0) this.push(null);
  }

  override _read(): void {
    this.#wanted = true;
    while (this.#wanted) {
      const data = this.#queue.shift();
      if (data === undefined) return;
      this.#wanted = this.push(data);
      this.#consume(data);
      if (this.#ended && this.#queue.length === 0) this.push(null);
    }
  }

  #consume(data: Buffer): void {
    this.#consumed += costOf(data);
    if (this.#consumed < this.#grantBytes) return;
    this.#credit += this.#consumed;
    this.#grant(this.#consumed);
    this.#consumed = 0;
  }
}

export interface CreditSender {
  data(data: Buffer): void;
  end(): void;
}

/** Sends input within its credit; a write is done when all of it has been sent. */
export class CreditWriter extends Writable {
  readonly #send: CreditSender;
  #credit = INPUT_CREDIT_BYTES;
  #waiting: (() => void) | undefined;
  #discards = false;

  constructor(send: CreditSender) {
    super({ highWaterMark: MAX_INPUT_DATA_BYTES });
    this.#send = send;
  }

  /** The other side has consumed this much; throws `resource_exhausted` when it never got that much. */
  grant(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > INPUT_CREDIT_BYTES)
      throw new CaissonError('resource_exhausted', 'more credit came than was used');
    this.#proceed();
  }

  /** Nobody is there any more: what is written from now on is dropped. */
  discard(): void {
    this.#discards = true;
    this.#proceed();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    let rest = chunk;
    while (rest.length > 0 && !this.#discards) {
      if (this.#credit < Math.min(rest.length, LEAST_DATA_BYTES) + MESSAGE_COST_BYTES) {
        this.#waiting = () => this._write(rest, _encoding, done);
        return;
      }
      const part = rest.subarray(0, Math.min(this.#credit - MESSAGE_COST_BYTES, MAX_INPUT_DATA_BYTES));
      rest = rest.subarray(part.length);
      this.#credit -= costOf(part);
      this.#send.data(part);
    }
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#discards) this.#send.end();
    done();
  }

  #proceed(): void {
    const proceed = this.#waiting;
    this.#waiting = undefined;
    proceed?.();
  }
}
