import { status } from '@grpc/grpc-js';
import { CaissonError, describeError, firstFailure } from '../lib/errors.ts';
import { statusOf } from '../lib/grpc/status.ts';

/** What grpc-js takes for a failed call. */
export interface CallFailure {
  readonly code: status;
  readonly details: string;
}

/** The kubelet explains these to the user, but only in an UNKNOWN status whose message starts with one of them. */
const kubeletWords = /^(RegistryUnavailable|SignatureValidationFailed|RROUnsupported|ImageVolumeMountFailed)\b/;

/** The details travel in an HTTP/2 header, which peers refuse when it is too long. */
const MAX_DETAILS_CHARS = 4096;

/** The gRPC status of anything thrown: a CaissonError's own, INTERNAL for the rest. Never holds a stack. */
export function toCallFailure(thrown: unknown): CallFailure {
  const error = firstFailure(thrown);
  const described = describeError(error);
  const details = described.length > MAX_DETAILS_CHARS ? `${described.slice(0, MAX_DETAILS_CHARS)}…` : described;
  if (!(error instanceof CaissonError)) return { code: status.INTERNAL, details };
  return { code: kubeletWords.test(details) ? status.UNKNOWN : statusOf[error.code], details };
}
