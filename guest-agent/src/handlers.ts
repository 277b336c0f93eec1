import type { handleUnaryCall, ServiceError } from '@grpc/grpc-js';
import { describeError, isCaissonError } from '../../src/lib/errors.ts';
import { statusOf } from '../../src/lib/grpc/status.ts';
import { controlCalls } from './precedence.ts';

/** What grpc-js sends as the call's status. */
export function fail(error: unknown): Partial<ServiceError> {
  const full = isErrnoNoSpace(error) ? 'resource_exhausted' : 'internal';
  return { code: statusOf[isCaissonError(error) ? error.code : full], details: describeError(error) };
}

const isErrnoNoSpace = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOSPC';

/** As `unary`; streams that bring much wait for it. */
export function urgent<Request, Response>(
  handle: (request: Request) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return unary((request) => controlCalls.of(() => handle(request)));
}

/** A promise-returning function as a gRPC handler. */
export function unary<Request, Response>(
  handle: (request: Request) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    handle(call.request).then(
      (response) => callback(null, response),
      (error: unknown) => callback(fail(error)),
    );
  };
}
