import type { handleServerStreamingCall } from '@grpc/grpc-js';
import { once } from 'node:events';
import { orAborted } from '../lib/async.ts';
import type { Logger } from '../lib/logger.ts';
import { runCall, type RpcContext } from './call.ts';

/** An RPC with many answers: yields them, then returns. */
export type StreamRpc<Request, Response> = (
  request: Request,
  context: RpcContext,
) => Iterable<Response> | AsyncIterable<Response>;

/** Annotations may reach 256 KiB an object, and the kubelet takes messages of 16 MiB at most. */
const ITEMS_PER_MESSAGE = 32;

/** Makes the grpc-js handler of a streaming RPC. Waits where the caller reads slowly. */
export function serverStream<Request extends object, Response extends object>(
  log: Logger,
  rpc: StreamRpc<Request, Response>,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const send = async (context: RpcContext): Promise<void> => {
      for await (const message of rpc(call.request, context)) {
        context.signal.throwIfAborted();
        if (!call.write(message)) await orAborted(once(call, 'drain'), context.signal);
      }
    };
    void runCall(call, 'read', log, send).then((outcome) =>
      outcome.ok ? call.end() : call.emit('error', outcome.failure),
    );
  };
}

/** Cuts a list into messages of at least one item; no items, no message. */
export function* inMessages<Item>(items: readonly Item[]): Generator<Item[]> {
  for (let start = 0; start < items.length; start += ITEMS_PER_MESSAGE) {
    yield items.slice(start, start + ITEMS_PER_MESSAGE);
  }
}
