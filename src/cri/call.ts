import { status, type ServerUnaryCall, type ServerWritableStream } from '@grpc/grpc-js';
import { CaissonError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { tracedApart } from '../lib/trace.ts';
import { toCallFailure, type CallFailure } from './errors.ts';

/** `read` answers from memory and is logged at debug, `change` is logged at info. */
export type RpcKind = 'read' | 'change';

export interface RpcContext {
  /** the RPC's name, which starts every sentence about a malformed request */
  readonly rpc: string;
  /** aborts with a CaissonError, `cancelled` or `deadline_exceeded`, when nobody waits for the answer any more */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

export type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly failure: CallFailure };

type Call = ServerUnaryCall<object, object> | ServerWritableStream<object, object>;

/** Runs an RPC's work: gives it its context, maps what it throws, logs one line when it is over. Never rejects. */
export async function runCall<T>(
  call: Call,
  kind: RpcKind,
  parentLog: Logger,
  work: (context: RpcContext) => T | Promise<T>,
): Promise<Outcome<T>> {
  const rpc = call.getPath().slice(call.getPath().lastIndexOf('/') + 1);
  const log = parentLog.child({ rpc, ...subjectOf(call.request) });
  const startedMs = performance.now();
  const durationMs = (): number => Math.round((performance.now() - startedMs) * 10) / 10;
  using cancellation = watchCancellation(call, rpc);
  try {
    const context = { rpc, signal: cancellation.signal, log };
    const value = await (kind === 'change'
      ? tracedApart(rpc, subjectOf(call.request), async () => work(context))
      : work(context));
    log[kind === 'change' ? 'info' : 'debug']({ durationMs: durationMs() }, `${rpc} done`);
    return { ok: true, value };
  } catch (error) {
    const failure = toCallFailure(error);
    logFailure(log, kind, error, { durationMs: durationMs(), status: status[failure.code] }, rpc);
    return { ok: false, failure };
  }
}

function logFailure(log: Logger, kind: RpcKind, error: unknown, fields: object, rpc: string): void {
  const sentence = `${rpc} failed`;
  // the logger's serializer of `err` writes the stack, which is for our own bugs and unknown ends of tools
  if (!(error instanceof CaissonError) || error.code === 'internal') log.error({ ...fields, err: error }, sentence);
  else log[kind === 'change' ? 'warn' : 'debug']({ ...fields, reason: toCallFailure(error).details }, sentence);
}

function watchCancellation(call: Call, rpc: string): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const abort = (): void => controller.abort(whyCancelled(call, rpc));
  // grpc-js ends a call whose deadline is over by itself, with this event
  if (call.cancelled) abort();
  else call.once('cancelled', abort);
  // it also sends the event after an answer: a signal that somebody still holds must not abort then
  return { signal: controller.signal, [Symbol.dispose]: () => void call.off('cancelled', abort) };
}

function whyCancelled(call: Call, rpc: string): CaissonError {
  const deadline = call.getDeadline();
  // a caller gives up at its own deadline, perhaps a moment before our clock says so
  const toleranceMs = 50;
  if (Date.now() >= Number(deadline) - toleranceMs) {
    return new CaissonError('deadline_exceeded', `${rpc} did not finish before the caller's deadline`);
  }
  return new CaissonError('cancelled', `${rpc} was cancelled by the caller`);
}

/** The fields of a request that say what it is about. A list of what is allowed: requests hold credentials and env. */
interface Subject {
  readonly pod_sandbox_id?: string;
  readonly container_id?: string;
  readonly image?: { readonly image?: string } | null;
  readonly config?: { readonly metadata?: { readonly name?: string; readonly namespace?: string } | null } | null;
}

function subjectOf(request: object): Record<string, string> {
  const { pod_sandbox_id, container_id, image, config }: Subject = request;
  const name = config?.metadata?.name;
  const namespace = config?.metadata?.namespace;
  return {
    ...(pod_sandbox_id && { sandboxId: pod_sandbox_id }),
    ...(container_id && { containerId: container_id }),
    ...(image?.image && { image: image.image }),
    ...(name && { name }),
    ...(namespace && { namespace }),
  };
}
