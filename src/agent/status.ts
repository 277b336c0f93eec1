import { status, type ServiceError } from '@grpc/grpc-js';
import { CaissonError, type ErrorCode } from '../lib/errors.ts';

const codeOf: Readonly<Partial<Record<status, ErrorCode>>> = {
  [status.INVALID_ARGUMENT]: 'invalid_argument',
  [status.NOT_FOUND]: 'not_found',
  [status.ALREADY_EXISTS]: 'already_exists',
  [status.FAILED_PRECONDITION]: 'failed_precondition',
  [status.PERMISSION_DENIED]: 'permission_denied',
  [status.RESOURCE_EXHAUSTED]: 'resource_exhausted',
  [status.DEADLINE_EXCEEDED]: 'deadline_exceeded',
  [status.CANCELLED]: 'cancelled',
  [status.UNAVAILABLE]: 'unavailable',
};

const MAX_WORDS = 2000;

/** The agent's error as ours; its words are cut, they come from the guest. */
export function agentError(call: string, error: unknown): CaissonError {
  const { code, details } = error as Partial<ServiceError>;
  const words = (details ?? String(error)).slice(0, MAX_WORDS);
  if (code === status.UNAVAILABLE)
    return new CaissonError('unavailable', `the guest agent is gone (${call}: ${words})`, { cause: error });
  if (code === status.DEADLINE_EXCEEDED) {
    return new CaissonError('deadline_exceeded', `the guest agent did not answer ${call} in time`, { cause: error });
  }
  return new CaissonError((code !== undefined && codeOf[code]) || 'internal', words, { cause: error });
}
