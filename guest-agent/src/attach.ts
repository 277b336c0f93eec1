import type { AttachStart__Output } from '../../proto/generated/agent/caisson/agent/v1/AttachStart.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { requireRunning, signalContainer, type Container } from './containers.ts';
import type { OutputClient, StreamName } from './output.ts';
import { inputSink } from './process-input.ts';
import type { StreamCall } from './stream-call.ts';

/** how long a client that takes nothing may keep the container, and its log, waiting */
const STALL_MS = 10_000;

/** The container's streams from now on, until it has ended or the client leaves. */
export async function attach(start: AttachStart__Output, call: StreamCall): Promise<void> {
  const container = requireRunning(start.container_id);
  using client = new AttachedClient(container, start, call);
  call.started();
  takeInput(container, start.stdin, call);
  call.control({
    resize: (columns, rows) => container.terminal?.resize(columns, rows),
    signal: (signal) => void signalContainer(container.id, signal, false),
  });
  await client.ended;
  await call.endOutputs();
}

function takeInput({ input, stdinOnce, terminal }: Container, wanted: boolean, call: StreamCall): void {
  if (!wanted || !input) {
    call.input.resume();
    return;
  }
  const end = (): void => {
    // a terminal outlives its first client: who leaves has only gone away from the keyboard
    if (stdinOnce && !(terminal && call.left.aborted)) input.end();
  };
  call.input.pipe(inputSink(input, end));
}

/** Gets what the container prints and how it ended. */
class AttachedClient implements OutputClient, Disposable {
  /** resolves after the exit and the last byte, or when the client has left; rejects when it does not read */
  readonly ended: Promise<void>;
  readonly #container: Container;
  readonly #wanted: Readonly<Record<StreamName, boolean>>;
  readonly #call: StreamCall;
  readonly #settle: PromiseWithResolvers<void>;
  readonly #draining = new Set<StreamName>();
  #stalled: NodeJS.Timeout | undefined;
  /** exit and end of output, in any order */
  #awaited = 2;

  constructor(container: Container, { stdout, stderr }: AttachStart__Output, call: StreamCall) {
    this.#container = container;
    this.#wanted = { STDOUT: stdout, STDERR: stderr };
    this.#call = call;
    this.#settle = Promise.withResolvers<void>();
    this.ended = this.#settle.promise;
    container.exitWatchers.add(this.#onExit);
    call.left.addEventListener('abort', () => this.#settle.resolve(), { once: true });
    if (call.left.aborted) this.#settle.resolve();
    container.output.join(this);
  }

  write(stream: StreamName, data: Buffer): boolean {
    if (!this.#wanted[stream] || this.#call.outputs[stream].write(data)) return true;
    this.#stalled ??= setTimeout(() => this.#settle.reject(tooSlow(this.#container.id)), STALL_MS);
    if (!this.#draining.has(stream)) void this.#drain(stream);
    return false;
  }

  end(): void {
    clearTimeout(this.#stalled);
    this.#tick();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#stalled);
    this.#container.exitWatchers.delete(this.#onExit);
    this.#container.output.leave(this);
  }

  readonly #onExit = (exit: NonNullable<Container['exit']>): void => {
    this.#call.exit(exit);
    this.#tick();
  };

  async #drain(stream: StreamName): Promise<void> {
    this.#draining.add(stream);
    await this.#call.outputs[stream].drained();
    this.#draining.delete(stream);
    if (this.#draining.size > 0) return;
    clearTimeout(this.#stalled);
    this.#stalled = undefined;
    this.#container.output.release(this);
  }

  #tick(): void {
    this.#awaited--;
    if (this.#awaited === 0) this.#settle.resolve();
  }
}

function tooSlow(id: string): CaissonError {
  const seconds = STALL_MS / 1000;
  return new CaissonError(
    'resource_exhausted',
    `this client of container ${id} has read nothing for ${seconds} s and kept the container waiting: it was disconnected`,
  );
}
