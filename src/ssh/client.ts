import type { Logger } from '../lib/logger.ts';
import type { Carrier } from './channel-ends.ts';
import type { SshOptions } from './contracts.ts';
import type { Permits } from './permits.ts';

/** Somebody who has proved to hold a key that is let in, as far as its channels need to know. */
export interface Client extends Carrier {
  /** what it calls the container or pod it wants */
  readonly target: string;
  readonly permits: Permits;
  /** aborted when the connection is over */
  readonly gone: AbortSignal;
  readonly options: Pick<SshOptions, 'pods' | 'acceptEnv' | 'vmAccess'>;
  /** names the key */
  readonly log: Logger;
}
