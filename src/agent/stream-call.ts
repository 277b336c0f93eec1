import { status, type ClientDuplexStream } from '@grpc/grpc-js';
import type { StreamRequest } from '../../proto/generated/agent/caisson/agent/v1/StreamRequest.ts';
import type { StreamResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/StreamResponse.ts';
import { CreditReader, CreditWriter, OUTPUT_CREDIT_BYTES } from '../lib/credit.ts';
import { CaissonError } from '../lib/errors.ts';
import { agentError } from './status.ts';

export type RawCall = ClientDuplexStream<StreamRequest, StreamResponse__Output>;

interface Exit {
  readonly code: number;
  readonly signal: number;
}

/** The daemon's end of an Exec, Attach or PortForward call: proto/agent/v1/agent.proto, StreamRequest. */
export class StreamCall {
  readonly stdin: CreditWriter;
  readonly stdout: CreditReader;
  readonly stderr: CreditReader;
  /** rejects when the call fails before */
  readonly started: Promise<void>;
  readonly exited: Promise<Exit>;
  readonly #rpc: string;
  readonly #raw: RawCall;
  readonly #started = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<Exit>();
  readonly #onOver: () => void;
  readonly #outbox = new Outbox();
  #over = false;

  /** `onOver` is called once, however the call ends. */
  constructor(rpc: string, raw: RawCall, start: StreamRequest, onOver: () => void) {
    this.#rpc = rpc;
    this.#raw = raw;
    this.#onOver = onOver;
    this.stdin = new CreditWriter({ data: (data) => this.#send({ data }), end: () => this.#send({ end: true }) });
    const reader = (stream: 'STDOUT' | 'STDERR') =>
      new CreditReader(OUTPUT_CREDIT_BYTES, (bytes) => this.#post(() => this.#outbox.credit(stream, bytes)));
    this.stdout = reader('STDOUT');
    this.stderr = reader('STDERR');
    this.started = this.#started.promise;
    this.exited = this.#exited.promise;
    // who does not ask, or does not listen, need not be told
    this.exited.catch(() => undefined);
    this.started.catch(() => undefined);
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream.on('error', () => undefined);
    raw.on('data', (message) => this.#take(message));
    raw.on('error', (error) => this.fail(whyBroken(rpc, error)));
    raw.on('end', () => this.#ended());
    raw.on('drain', () => this.#post(() => undefined));
    raw.write(start);
  }

  resize(size: { readonly columns: number; readonly rows: number }): void {
    this.#post(() => this.#outbox.resize(size));
  }

  signal(signal: number): void {
    this.#post(() => this.#outbox.signal(signal));
  }

  /** Ends the call and everything that hangs on it with this error; nothing if it is over. */
  fail(error: CaissonError): void {
    if (this.#over) return;
    this.#over = true;
    this.#raw.cancel();
    this.#started.reject(error);
    this.#exited.reject(error);
    for (const stream of [this.stdin, this.stdout, this.stderr])
      stream.destroy(leftOnPurpose(error) ? undefined : error);
    this.#onOver();
  }

  #take(message: StreamResponse__Output): void {
    if (this.#over) return;
    try {
      if (message.stdout) this.stdout.receive(message.stdout);
      else if (message.stderr) this.stderr.receive(message.stderr);
      else if (message.end) (message.end === 'STDERR' ? this.stderr : this.stdout).receiveEnd();
      else if (message.credit) this.stdin.grant(message.credit);
      else if (message.started) this.#started.resolve();
      else if (message.exit) this.#exit(message.exit);
    } catch (error) {
      this.fail(new CaissonError('internal', `the guest agent breaks the rules of ${this.#rpc}`, { cause: error }));
    }
  }

  #exit({ code, signal }: Exit): void {
    this.#exited.resolve({ code: code & 0xff, signal: signal & 0x7f });
    this.stdin.discard();
  }

  #ended(): void {
    if (this.#over) return;
    this.#over = true;
    this.stdout.receiveEnd();
    this.stderr.receiveEnd();
    this.stdin.discard();
    const error = new CaissonError('internal', `the guest agent ended ${this.#rpc} without an exit`);
    this.#started.reject(error);
    this.#exited.reject(error); // of a port there is none, and nobody asks
    this.#raw.end();
    this.#onOver();
  }

  #send(message: StreamRequest): void {
    if (!this.#over) this.#raw.write(message); // bounded by the credit
  }

  #post(put: () => void): void {
    if (this.#over) return;
    put();
    while (!this.#raw.writableNeedDrain) {
      const message = this.#outbox.take();
      if (!message) return;
      this.#raw.write(message);
    }
  }
}

/** Messages beside the data, merged while the guest does not take them: so their number is bounded. */
class Outbox {
  readonly #credits = new Map<'STDOUT' | 'STDERR', number>();
  readonly #signals = new Set<number>();
  #size: { readonly columns: number; readonly rows: number } | undefined;

  credit(stream: 'STDOUT' | 'STDERR', bytes: number): void {
    this.#credits.set(stream, (this.#credits.get(stream) ?? 0) + bytes);
  }

  signal(signal: number): void {
    this.#signals.add(signal);
  }

  resize(size: { readonly columns: number; readonly rows: number }): void {
    this.#size = size;
  }

  take(): StreamRequest | undefined {
    for (const [stream, bytes] of this.#credits) {
      this.#credits.delete(stream);
      return { credit: { stream, bytes } };
    }
    if (this.#size) {
      const resize = this.#size;
      this.#size = undefined;
      return { resize };
    }
    for (const signal of this.#signals) {
      this.#signals.delete(signal);
      return { signal };
    }
    return undefined;
  }
}

const leftOnPurpose = (error: CaissonError): boolean => error.code === 'cancelled';

/** A call that the daemon did not cancel itself was broken off below it, with the connection. */
function whyBroken(rpc: string, error: Error & { readonly code?: number }): CaissonError {
  if (error.code === status.CANCELLED)
    return new CaissonError('unavailable', `the guest agent is gone (${rpc}: ${error.message})`, { cause: error });
  return agentError(rpc, error);
}
