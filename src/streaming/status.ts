/** How a command's end is told: metav1.Status as JSON since version 4 of the protocol, plain text before. */
import { CaissonError, describeError } from '../lib/errors.ts';

/** An exit code, or why there is none. */
export type Outcome = { readonly exitCode: number } | { readonly error: unknown };

/** What goes out on the error stream as JSON. */
export function statusJson(outcome: Outcome): Buffer {
  return Buffer.from(JSON.stringify(statusOf(outcome)));
}

/** For the older versions, in which no text means success. */
export function statusText(outcome: Outcome): Buffer {
  const status = statusOf(outcome);
  return Buffer.from('message' in status ? status.message : '');
}

/** Clients know InternalError, and show its message. Ours finds our own code, such as `not_found`, in the cause. */
function statusOf(outcome: Outcome) {
  if ('error' in outcome) {
    const { error } = outcome;
    const message = describeError(error);
    return {
      metadata: {},
      status: 'Failure',
      message,
      reason: 'InternalError',
      details: { causes: [{ ...(error instanceof CaissonError && { reason: error.code }), message }] },
      code: 500,
    };
  }
  const { exitCode } = outcome;
  if (exitCode === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: ${exitCode}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  };
}
