import { status, type handleUnaryCall, type ServiceError } from '@grpc/grpc-js';
import { describeError, isCaissonError, type ErrorCode } from '../../src/lib/errors.ts';

const statusOf: Readonly<Record<ErrorCode, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  failed_precondition: status.FAILED_PRECONDITION,
  permission_denied: status.PERMISSION_DENIED,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  unavailable: status.UNAVAILABLE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
};

/** What grpc-js sends as the call's status. */
export function fail(error: unknown): Partial<ServiceError> {
  const full = isErrnoNoSpace(error) ? 'resource_exhausted' : 'internal';
  return { code: statusOf[isCaissonError(error) ? error.code : full], details: describeError(error) };
}

const isErrnoNoSpace = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOSPC';

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
