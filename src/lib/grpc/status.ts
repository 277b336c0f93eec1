import { status } from '@grpc/grpc-js';
import type { ErrorCode } from '../errors.ts';

/** The gRPC status of each of our error codes. */
export const statusOf: Readonly<Record<ErrorCode, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  // before the next: a status that comes back is that one
  untrusted: status.FAILED_PRECONDITION,
  failed_precondition: status.FAILED_PRECONDITION,
  permission_denied: status.PERMISSION_DENIED,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  unavailable: status.UNAVAILABLE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
};

const codes = new Map(Object.entries(statusOf).map(([code, value]) => [value, code as ErrorCode]));

/** Our code for a gRPC status; `internal` for those that we never send. */
export function codeOf(value: status | undefined): ErrorCode {
  return (value !== undefined && codes.get(value)) || 'internal';
}
