import { describeError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { ChannelEnds } from './channel-ends.ts';

const MAX_COMMAND_CHARS = 1000;

export interface AuditedChannel {
  readonly channel: 'shell' | 'exec' | 'sftp' | 'forward';
  /** as the client named it */
  readonly target: string;
  readonly command?: string;
  readonly tty?: boolean;
  /** of a forwarded connection, as the client named it */
  readonly destination?: string;
}

export interface AuditedEnd {
  readonly containerId?: string | undefined;
  readonly sandboxId?: string | undefined;
  readonly code?: number;
  readonly signal?: number;
  readonly error?: unknown;
}

/** One line for each channel, when it is over. */
export function audit(log: Logger, { command, ...channel }: AuditedChannel) {
  const startedMs = performance.now();
  return (ends: ChannelEnds | undefined, { error, ...end }: AuditedEnd): void => {
    const { bytesIn = 0, bytesOut = 0 } = ends ?? {};
    const failure =
      error === undefined ? {} : { outcome: ends?.gone.aborted ? 'the client left' : describeError(error) };
    log.info(
      {
        ...channel,
        ...(command !== undefined && { command: command.slice(0, MAX_COMMAND_CHARS) }),
        ...end,
        ...{ bytesIn, bytesOut },
        ...failure,
        ms: Math.round(performance.now() - startedMs),
      },
      'ssh channel ended',
    );
  };
}
