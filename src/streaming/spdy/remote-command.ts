import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { orAborted, withTimeout } from '../../lib/async.ts';
import type { StreamsWanted } from '../../pod/contracts.ts';
import type { Channel } from '../channel.ts';
import type { ConnectionOptions } from '../connection.ts';
import type { CommandEnds } from '../remote-command.ts';
import { statusJson, statusText, type Outcome } from '../status.ts';
import { ResetStatus } from './frames.ts';
import { SpdySession } from './session.ts';

/** By name, from oldest to newest. Version 5 has something to say in WebSocket only. */
export const COMMAND_PROTOCOLS: readonly string[] = [
  'channel.k8s.io',
  'v2.channel.k8s.io',
  'v3.channel.k8s.io',
  'v4.channel.k8s.io',
];
const RESIZE_SINCE = 3;
const JSON_STATUS_SINCE = 4;

/** `ms` */
const STREAMS_TIMEOUT_MS = 30_000;
/** those of a command, and as many again for a client that is confused */
const MAX_STREAMS = 10;

export interface CommandOptions extends ConnectionOptions {
  /** one of COMMAND_PROTOCOLS */
  readonly protocol: string;
  readonly streams: StreamsWanted & { readonly tty: boolean };
  readonly run: (ends: CommandEnds) => Promise<Outcome>;
}

type StreamName = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize';

/** Serves one command: waits for the client to open its streams, runs it, says how it ended. */
export async function serveCommand(transport: Duplex, options: CommandOptions): Promise<Outcome | undefined> {
  const version = COMMAND_PROTOCOLS.indexOf(options.protocol) + 1;
  const missing = new Set(streamNames(options, version));
  const channels = new Map<StreamName, Channel>();
  const { promise: complete, resolve: completed } = Promise.withResolvers<void>();
  await using session = new SpdySession(transport, {
    ...options,
    maxStreams: MAX_STREAMS,
    onStream: (stream, headers) => {
      const name = headers.get('streamtype') as StreamName;
      if (!missing.delete(name)) return ResetStatus.protocolError;
      channels.set(name, stream);
      if (missing.size === 0) completed();
      return undefined;
    },
  });
  await withTimeout(orAborted(complete, session.gone), STREAMS_TIMEOUT_MS, 'the opening of all streams').catch(
    (error: unknown) => {
      if (!session.gone.aborted) throw error;
    },
  );
  if (session.gone.aborted) return undefined;
  for (const name of ['error', 'stdout', 'stderr'] as const) channels.get(name)?.resume();
  const outcome = await options.run({
    stdin: channels.get('stdin'),
    stdout: channels.get('stdout'),
    stderr: channels.get('stderr'),
    resize: channels.get('resize'),
    gone: session.gone,
  });
  if (session.gone.aborted) return undefined;
  await endStreams(channels, version >= JSON_STATUS_SINCE ? statusJson(outcome) : statusText(outcome));
  await session.finish();
  return outcome;
}

function streamNames({ streams }: CommandOptions, version: number): StreamName[] {
  const { stdin, stdout, stderr, tty } = streams;
  return [
    'error',
    ...(stdin ? (['stdin'] as const) : []),
    ...(stdout ? (['stdout'] as const) : []),
    ...(stderr && !tty ? (['stderr'] as const) : []),
    ...(tty && version >= RESIZE_SINCE ? (['resize'] as const) : []),
  ];
}

/** The status is complete before the output ends: clients stop reading at the end of the output. */
async function endStreams(channels: ReadonlyMap<StreamName, Channel>, status: Buffer): Promise<void> {
  const error = channels.get('error');
  if (status.length > 0) error?.write(status);
  await endOf(error);
  await Promise.all(['stdout', 'stderr', 'stdin', 'resize'].map((name) => endOf(channels.get(name as StreamName))));
}

async function endOf(channel: Channel | undefined): Promise<void> {
  if (!channel || channel.destroyed) return;
  channel.end();
  // one that the client has dropped is ended as well
  await finished(channel, { readable: false, cleanup: true }).catch(() => undefined);
}
