import type { handleUnaryCall } from '@grpc/grpc-js';
import type { Logger } from '../lib/logger.ts';
import { runCall, type RpcContext, type RpcKind } from './call.ts';

/** An RPC with one answer. Throws CaissonError; what it throws besides is answered as INTERNAL. */
export type Rpc<Request, Response> = (request: Request, context: RpcContext) => Response | Promise<Response>;

/** Makes the grpc-js handler of an RPC. */
export function unary<Request extends object, Response extends object>(
  kind: RpcKind,
  log: Logger,
  rpc: Rpc<Request, Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    void runCall(call, kind, log, (context) => rpc(call.request, context)).then((outcome) =>
      outcome.ok ? callback(null, outcome.value) : callback(outcome.failure),
    );
  };
}
