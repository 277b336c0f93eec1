import { status, type ServiceError } from '@grpc/grpc-js';
import { CaissonError } from '../lib/errors.ts';
import { codeOf } from '../lib/grpc/status.ts';

const MAX_WORDS = 2000;
/** How grpc-js begins its words when a call's deadline passes. */
const OUR_DEADLINE = 'Deadline exceeded';

/** The agent's error as ours; its words are cut, they come from the guest. */
export function agentError(call: string, error: unknown): CaissonError {
  const { code, details } = error as Partial<ServiceError>;
  const words = (details ?? String(error)).slice(0, MAX_WORDS);
  if (code === status.UNAVAILABLE)
    return new CaissonError('unavailable', `the guest agent is gone (${call}: ${words})`, { cause: error });
  if (code === status.DEADLINE_EXCEEDED) {
    // ours has passed, or one of the agent's own
    const late = words.startsWith(OUR_DEADLINE) ? `the guest agent did not answer ${call} in time` : words;
    return new CaissonError('deadline_exceeded', late, { cause: error });
  }
  return new CaissonError(codeOf(code), words, { cause: error });
}
