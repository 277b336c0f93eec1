import {
  costOf,
  LEAST_DATA_BYTES,
  MAX_OUTPUT_DATA_BYTES,
  MESSAGE_COST_BYTES,
  OUTPUT_CREDIT_BYTES,
} from '../../src/lib/credit.ts';
import type { CreditSender } from '../../src/lib/credit.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import type { OutputSink } from './process-output.ts';

/**
 * Sends within its credit, as CreditWriter does, with fewer steps: output is what the guest's processor has to
 * carry most of. `send.data` must copy what it gets.
 */
export class CreditedOutput implements OutputSink {
  readonly #send: CreditSender;
  #credit = OUTPUT_CREDIT_BYTES;
  /** what the credit was not enough for */
  #kept: Buffer = NOTHING;
  #drained: PromiseWithResolvers<void> | undefined;
  #discards = false;
  #ended: Promise<void> | undefined;

  constructor(send: CreditSender) {
    this.#send = send;
  }

  /** Takes all of it; false: no more until `drained`. The buffer is the caller's again. */
  write(data: Buffer): boolean {
    if (this.#discards) return true;
    if (this.#kept.length > 0) this.#kept = Buffer.concat([this.#kept, data]);
    else {
      const rest = this.#sendSome(data);
      if (rest.length === 0) return true;
      this.#kept = Buffer.from(rest);
    }
    return false;
  }

  async drained(): Promise<void> {
    if (this.#kept.length === 0) return;
    this.#drained ??= Promise.withResolvers<void>();
    await this.#drained.promise;
  }

  /** Nothing will be written any more; returns when all of it has been sent, or nobody is there any more. */
  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  /** The other side has consumed this much; throws `resource_exhausted` when it never got that much. */
  grant(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > OUTPUT_CREDIT_BYTES)
      throw new CaissonError('resource_exhausted', 'more credit came than was used');
    if (this.#kept.length === 0) return;
    this.#kept = this.#sendSome(this.#kept);
    this.#settle();
  }

  /** Nobody is there any more: what is written from now on is dropped. */
  discard(): void {
    this.#discards = true;
    this.#kept = NOTHING;
    this.#settle();
  }

  async #end(): Promise<void> {
    await this.drained();
    if (!this.#discards) this.#send.end();
  }

  #settle(): void {
    if (this.#kept.length > 0) return;
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  /** Returns what is left. */
  #sendSome(data: Buffer): Buffer {
    let rest = data;
    while (rest.length > 0 && this.#credit >= Math.min(rest.length, LEAST_DATA_BYTES) + MESSAGE_COST_BYTES) {
      const part = rest.subarray(0, Math.min(this.#credit - MESSAGE_COST_BYTES, MAX_OUTPUT_DATA_BYTES));
      rest = rest.subarray(part.length);
      this.#credit -= costOf(part);
      this.#send.data(part);
    }
    return rest;
  }
}

const NOTHING = Buffer.alloc(0);
