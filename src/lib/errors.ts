/**
 * The one error type that crosses module borders. `code` decides the gRPC status (src/cri/errors.ts), `message` is one
 * sentence that says what failed and for which pod, image or field, `hint` says what to do about it.
 */
export type ErrorCode =
  | 'invalid_argument' // the caller sent something that can never work
  | 'not_found' // the named sandbox, container or image does not exist
  | 'already_exists' // the name is taken
  | 'failed_precondition' // right request, wrong state of the object or of the host
  | 'permission_denied' // a registry or a policy refuses
  | 'untrusted' // a signature policy refuses
  | 'resource_exhausted' // disk, memory or a limit of ours is used up
  | 'deadline_exceeded' // an operation took longer than it was given
  | 'cancelled' // the caller went away
  | 'unavailable' // something outside (registry, plugin, VM) does not answer; a retry may help
  | 'unimplemented' // not offered by this version
  | 'internal'; // a bug of ours, or a tool failing in a way we do not know

export interface ErrorOptions {
  readonly cause?: unknown;
  readonly hint?: string | undefined;
}

export class CaissonError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'CaissonError';
    this.code = code;
    this.hint = options.hint;
  }
}

export function isCaissonError(error: unknown, code?: ErrorCode): error is CaissonError {
  return error instanceof CaissonError && (code === undefined || error.code === code);
}

/** The message of anything thrown, with its hint, without its stack. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const hint = error instanceof CaissonError && error.hint !== undefined ? ` (${error.hint})` : '';
  return `${error.message}${hint}`;
}

/** Of a failure whose undoing failed as well, what failed first: that is what the caller asked about. */
export function firstFailure(error: unknown): unknown {
  return error instanceof SuppressedError ? firstFailure(error.suppressed) : error;
}

/** True for Node's system errors with this errno name, such as `ENOENT`. */
export function isErrno(error: unknown, name: string): boolean {
  return error instanceof Error && 'code' in error && error.code === name;
}

export function assertNever(value: never): never {
  throw new CaissonError('internal', `unexpected value: ${JSON.stringify(value)}`);
}
