import { Metadata, type ClientDuplexStream } from '@grpc/grpc-js';
import type { AgentClient as AgentStub } from '../../proto/generated/agent/caisson/agent/v1/Agent.ts';
import type { ContainerOutputRequest } from '../../proto/generated/agent/caisson/agent/v1/ContainerOutputRequest.ts';
import type { ContainerOutputResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/ContainerOutputResponse.ts';
import type { ExecSyncEvent__Output } from '../../proto/generated/agent/caisson/agent/v1/ExecSyncEvent.ts';
import type { Exit__Output } from '../../proto/generated/agent/caisson/agent/v1/Exit.ts';
import type { StartContainerEvent__Output } from '../../proto/generated/agent/caisson/agent/v1/StartContainerEvent.ts';
import { CaissonError } from '../lib/errors.ts';
import type { AgentExit, ExecOutcome, OutputChunk } from './contracts.ts';
import type { OpenCalls } from './sessions.ts';
import { agentError } from './status.ts';

/** The agent reads on for this much that is not acknowledged: guest-agent/src/output.ts. */
const MAX_CHUNK_BYTES = 256 * 1024;
const LEAST_BUFFER_BYTES = 4096;

/** Reads a container's output to its end, acknowledging what `store` has taken. */
export async function readOutput(
  stub: AgentStub,
  id: string,
  store: (chunk: OutputChunk) => Promise<number>,
  open: OpenCalls,
): Promise<void> {
  const call: ClientDuplexStream<ContainerOutputRequest, ContainerOutputResponse__Output> = stub.ContainerOutput();
  using entry = listed(call, open);
  try {
    call.write({ id });
    for await (const message of call as AsyncIterable<ContainerOutputResponse__Output>) {
      const stream = message.stream === 'STDERR' ? 'stderr' : 'stdout';
      const endOffset = Number(message.end_offset);
      if (message.data.length > MAX_CHUNK_BYTES)
        throw new CaissonError('internal', 'the guest agent sends more output at a time than it keeps');
      const stored = await store({ stream, data: message.data, timeNs: message.time_ns, endOffset });
      call.write({ acknowledged: String(stored) });
    }
    call.end();
  } catch (error) {
    call.cancel();
    throw error instanceof CaissonError ? error : (entry.reason ?? agentError('ContainerOutput', error));
  }
}

export const agentExit = (exit: Exit__Output): AgentExit => ({
  code: exit.code,
  finishedAtNs: exit.finished_at_ns,
  oomKilled: exit.oom_killed,
});

/** Returns when the container's process runs, within `deadlineMs`; what comes later on the same call is its end. */
export async function runStart(
  stub: AgentStub,
  id: string,
  open: OpenCalls,
  signal: AbortSignal,
  deadlineMs: number,
): Promise<{ readonly exited: Promise<AgentExit> }> {
  const call = stub.StartContainer({ id }, new Metadata({ waitForReady: true }));
  const entry = listed(call, open);
  const started = Promise.withResolvers<void>();
  const exited = Promise.withResolvers<AgentExit>();
  exited.promise.catch(() => undefined); // nobody has to look at it
  const over = (error: unknown): void => {
    entry[Symbol.dispose]();
    started.reject(error);
    exited.reject(error);
  };
  let events = 0;
  call.on('data', ({ exit }: StartContainerEvent__Output) => {
    if (exit) exited.resolve(agentExit(exit));
    else started.resolve();
    if (++events > 2) entry.fail(new CaissonError('internal', 'the guest agent tells more than a start and an end'));
  });
  call.on('error', (error) => over(entry.reason ?? agentError('StartContainer', error)));
  call.on('end', () => over(new CaissonError('internal', 'the guest agent ended StartContainer without an exit')));
  const tooLate = new CaissonError('deadline_exceeded', 'the guest agent did not answer StartContainer in time');
  const late = setTimeout(() => entry.fail(tooLate), deadlineMs);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    await started.promise;
    return { exited: exited.promise };
  } finally {
    clearTimeout(late);
    signal.removeEventListener('abort', cancel);
  }
}

export interface ExecRequest {
  readonly id: string;
  readonly command: readonly string[];
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** Collects a command's output, dropping what is over the limit; the command runs on to its end all the same. */
export async function runExec(
  stub: AgentStub,
  request: ExecRequest,
  open: OpenCalls,
  signal: AbortSignal,
): Promise<ExecOutcome> {
  const call = stub.ExecSync({
    container_id: request.id,
    command: [...request.command],
    timeout_ms: String(request.timeoutMs),
  });
  using entry = listed(call, open);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  const stdout = new BoundedBuffer(request.maxBytes);
  const stderr = new BoundedBuffer(request.maxBytes);
  try {
    for await (const event of call as AsyncIterable<ExecSyncEvent__Output>) {
      if (event.stdout) stdout.add(event.stdout);
      else if (event.stderr) stderr.add(event.stderr);
      else if (event.exit) {
        return {
          stdout: stdout.take(),
          stderr: stderr.take(),
          exitCode: event.exit.code & 0xff,
          timedOut: event.exit.timed_out,
        };
      }
    }
  } catch (error) {
    throw entry.reason ?? agentError('ExecSync', error);
  } finally {
    signal.removeEventListener('abort', cancel);
  }
  throw new CaissonError('internal', 'the guest agent ended an exec without its exit code');
}

interface ListedCall extends Disposable {
  /** Ends it, for this reason. */
  readonly fail: (why: CaissonError) => void;
  /** why it was ended from outside, if it was */
  readonly reason: CaissonError | undefined;
}

/** Puts a call among those that end with their client. */
function listed(call: { cancel(): void }, open: OpenCalls): ListedCall {
  let reason: CaissonError | undefined;
  const entry = {
    fail: (why: CaissonError): void => {
      reason = why;
      call.cancel();
    },
  };
  open.add(entry);
  return {
    ...entry,
    get reason() {
      return reason;
    },
    [Symbol.dispose]: () => void open.delete(entry),
  };
}

/** One buffer that grows: a guest may send as many parts of a byte as it likes. */
class BoundedBuffer {
  readonly #maxBytes: number;
  #data: Buffer = Buffer.alloc(0);
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(part: Buffer): void {
    const length = Math.min(this.#length + part.length, this.#maxBytes);
    if (length > this.#data.length) {
      const larger = Buffer.allocUnsafe(
        Math.min(Math.max(length, this.#data.length * 2, LEAST_BUFFER_BYTES), this.#maxBytes),
      );
      this.#data.copy(larger, 0, 0, this.#length);
      this.#data = larger;
    }
    part.copy(this.#data, this.#length, 0, length - this.#length);
    this.#length = length;
  }

  take(): Buffer {
    return this.#data.subarray(0, this.#length);
  }
}
