/** What all transports of a client's connection have in common. */
import { setMaxListeners } from 'node:events';
import { CaissonError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';

export interface ConnectionOptions {
  /** `ms` without anything moving, after which the connection is closed; 0: never */
  readonly idleTimeoutMs: number;
  readonly log: Logger;
}

/** `ms` between pings while nothing is read from the client, which is then the only way to see that it is gone */
export const PAUSED_PING_MS = 10_000;

/** `ms` that a client gets to close the connection after it was told that all is over; then we do */
export const CLIENT_CLOSES_MS = 5000;

/** `ms` that a slow reader gets for what is on its way to it when all is over */
export const SLOW_READER_MS = 600_000;

/** `ms` for the last bytes to a client that broke the protocol */
export const REFUSED_CLIENT_MS = 1000;

/** Aborted once when the client is gone, however that came about. */
export function goneSignal(): { readonly gone: AbortSignal; readonly abort: () => void } {
  const controller = new AbortController();
  // a port-forward has one listener for each connection that is being made
  setMaxListeners(0, controller.signal);
  const abort = (): void => {
    if (!controller.signal.aborted) controller.abort(new CaissonError('cancelled', 'the client is gone'));
  };
  return { gone: controller.signal, abort };
}
