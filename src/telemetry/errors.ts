import { CaissonError } from '../lib/errors.ts';

export interface SerializedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly stack?: string;
  /** outermost first */
  readonly causes?: readonly Omit<SerializedError, 'causes' | 'stack'>[];
}

const MAX_CAUSES = 10;

/**
 * What is logged of an error: its chain of causes and one stack, the innermost, which shows where it began. Other
 * properties are left out on purpose: those of a failed command hold its environment.
 */
export function serializeError(error: unknown): SerializedError {
  const [outer, ...causes] = causeChain(error);
  const innermost = causes.at(-1) ?? outer;
  const stack = innermost instanceof Error ? innermost.stack : undefined;
  return {
    ...summary(outer),
    ...(causes.length > 0 && { causes: causes.map(summary) }),
    ...(stack !== undefined && { stack }),
  };
}

function causeChain(error: unknown): unknown[] {
  const chain = [error];
  let at: unknown = error;
  while (at instanceof Error && at.cause !== undefined && chain.length <= MAX_CAUSES && !chain.includes(at.cause)) {
    at = at.cause;
    chain.push(at);
  }
  return chain;
}

function summary(error: unknown): Omit<SerializedError, 'causes' | 'stack'> {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const code: unknown = 'code' in error ? error.code : undefined;
  return {
    type: error.name,
    message: error.message,
    ...((typeof code === 'string' || typeof code === 'number') && { code: String(code) }),
    ...(error instanceof CaissonError && error.hint !== undefined && { hint: error.hint }),
  };
}
