import type { handleBidiStreamingCall, ServerDuplexStream } from '@grpc/grpc-js';
import type { StreamRequest__Output } from '../../proto/generated/agent/caisson/agent/v1/StreamRequest.ts';
import { CreditReader, INPUT_CREDIT_BYTES } from '../../src/lib/credit.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { CreditedOutput } from './credited-output.ts';
import { dataMessage, type Response } from './data-message.ts';
import { fail } from './handlers.ts';
import type { ProcessEnd } from './native.ts';
import type { StreamName } from './output.ts';

/** What the client wants besides data. */
export interface StreamControl {
  resize(columns: number, rows: number): void;
  signal(signal: number): void;
}

type Call = ServerDuplexStream<StreamRequest__Output, Response>;

/** The agent's end of an Exec, Attach or PortForward call: proto/agent/v1/agent.proto, StreamRequest. */
export class StreamCall {
  /** ends when the client ends it or leaves */
  readonly input: CreditReader;
  /** drop what they get when the client has left */
  readonly outputs: Readonly<Record<StreamName, CreditedOutput>>;
  /** aborts when the client leaves */
  readonly left: AbortSignal;
  readonly #leave = new AbortController();
  readonly #call: Call;
  #control: StreamControl | undefined;
  #early: ((control: StreamControl) => void)[] = [];

  constructor(call: Call) {
    this.#call = call;
    this.left = this.#leave.signal;
    this.input = new CreditReader(INPUT_CREDIT_BYTES, (credit) => this.#send({ credit }));
    const writer = (stream: StreamName) =>
      new CreditedOutput({
        data: (data) => this.#send(dataMessage(stream, data)),
        end: () => this.#send({ end: stream }),
      });
    this.outputs = { STDOUT: writer('STDOUT'), STDERR: writer('STDERR') };
  }

  started(): void {
    this.#send({ started: true });
  }

  exit({ code, signal }: ProcessEnd): void {
    this.#send({ exit: { code, signal } });
  }

  /** Also gets what came earlier. */
  control(control: StreamControl): void {
    this.#control = control;
    for (const apply of this.#early) apply(control);
    this.#early = [];
  }

  /** Sends the ends of the outputs; returns when everything before them has been sent, or the client has left. */
  async endOutputs(): Promise<void> {
    await Promise.all(Object.values(this.outputs).map((output) => output.end()));
  }

  take(message: StreamRequest__Output): void {
    if (message.data) this.input.receive(message.data);
    else if (message.end) this.input.receiveEnd();
    else if (message.credit)
      this.outputs[message.credit.stream === 'STDERR' ? 'STDERR' : 'STDOUT'].grant(message.credit.bytes);
    else if (message.resize) {
      const { columns, rows } = message.resize;
      this.#apply((control) => control.resize(columns, rows));
    } else if (message.signal) {
      const { signal } = message;
      this.#apply((control) => control.signal(signal));
    }
  }

  leave(): void {
    for (const output of Object.values(this.outputs)) output.discard();
    this.input.receiveEnd();
    this.#leave.abort();
  }

  #apply(apply: (control: StreamControl) => void): void {
    if (this.#control) apply(this.#control);
    else this.#early.push(apply);
  }

  #send(message: Response): void {
    if (!this.left.aborted) this.#call.write(message); // bounded by the credit
  }
}

/** The handler of an RPC; `serve` returns when nothing more is to be sent. */
export function streaming(
  serve: (start: StreamRequest__Output, call: StreamCall) => Promise<void>,
): handleBidiStreamingCall<StreamRequest__Output, Response> {
  return (call) => {
    let stream: StreamCall | undefined;
    const failed = (error: unknown): void => {
      call.emit('error', fail(error)); // destroy() would end the call without a status
      stream?.leave();
    };
    call.on('data', (message) => {
      try {
        if (stream) return stream.take(message);
        stream = new StreamCall(call);
        serve(message, stream).then(() => call.end(), failed);
      } catch (error) {
        failed(error);
      }
    });
    call.on('cancelled', () => stream?.leave());
  };
}

export function wrongStart(rpc: string): CaissonError {
  return new CaissonError('invalid_argument', `the first message of ${rpc} does not say what is wanted`);
}
