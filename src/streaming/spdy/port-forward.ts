import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { Channel } from '../channel.ts';
import type { ConnectionOptions } from '../connection.ts';
import { forward } from '../forward.ts';
import { ResetStatus } from './frames.ts';
import { SpdySession } from './session.ts';

export const PORT_FORWARD_PROTOCOL = 'portforward.k8s.io';

/** two for each forwarded connection */
const MAX_STREAMS = 1024;
/** `ms` that one stream of a pair waits for the other */
const PAIR_TIMEOUT_MS = 30_000;
const MAX_PORT = 65_535;

export interface PortForwardOptions extends ConnectionOptions {
  readonly dial: (port: number, signal: AbortSignal) => Promise<Duplex>;
  /** for messages, such as `port 80 to pod 0123` */
  readonly describe: (port: number) => string;
  readonly pairTimeoutMs?: number;
}

type PairPart = 'data' | 'error';

/** The streams of one forwarded connection, as far as the client has opened them. */
interface Pair {
  readonly port: number;
  readonly parts: Partial<Record<PairPart, Channel>>;
  readonly timer: NodeJS.Timeout;
}

/** Serves forwarded connections, each a pair of streams, until the client leaves. */
export async function servePortForward(transport: Duplex, options: PortForwardOptions): Promise<void> {
  const { log, dial, describe, pairTimeoutMs = PAIR_TIMEOUT_MS } = options;
  const halves = new Map<string, Pair>();
  const running = new Set<Promise<void>>();
  const { promise: over, resolve: end } = Promise.withResolvers<void>();
  await using session = new SpdySession(transport, { ...options, maxStreams: MAX_STREAMS, onStream: pairUp });
  session.gone.addEventListener('abort', () => end());
  if (session.gone.aborted) end();
  await over;
  for (const { timer } of halves.values()) clearTimeout(timer);
  await Promise.all(running);

  function pairUp(stream: Channel, headers: ReadonlyMap<string, string>, id: number): ResetStatus | undefined {
    const part = headers.get('streamtype');
    const port = parsePort(headers.get('port'));
    if ((part !== 'data' && part !== 'error') || port === undefined) return ResetStatus.protocolError;
    // clients of Kubernetes 1.2 and older name no request: their error stream comes first, the data stream next
    const request = headers.get('requestid') ?? `id ${part === 'error' ? id : id - 2}`;
    const pair = halves.get(request) ?? openPair(request, port);
    if (pair.parts[part] !== undefined || pair.port !== port) return ResetStatus.protocolError;
    pair.parts[part] = stream;
    // the client says nothing on it
    if (part === 'error') stream.resume();
    const { data, error } = pair.parts;
    if (!data || !error) {
      stream.on('close', () => forget(request, pair));
      return undefined;
    }
    forget(request, pair);
    const connection = run(data, error, port).finally(() => running.delete(connection));
    running.add(connection);
    return undefined;
  }

  function forget(request: string, pair: Pair): void {
    clearTimeout(pair.timer);
    if (halves.get(request) === pair) halves.delete(request);
  }

  function openPair(request: string, port: number): Pair {
    const parts: Pair['parts'] = {};
    const timer = setTimeout(() => {
      parts.data?.destroy();
      parts.error?.destroy();
    }, pairTimeoutMs).unref();
    const pair = { port, parts, timer };
    halves.set(request, pair);
    return pair;
  }

  async function run(data: Channel, error: Channel, port: number): Promise<void> {
    try {
      const report = (problem: string | undefined): Promise<void> => say(error, problem);
      await forward(() => dial(port, session.gone), { data, report, halfCloses: true }, describe(port));
    } catch (err) {
      log.error({ err, port }, 'a forwarded connection failed');
    } finally {
      if (!error.writableEnded) error.destroy();
    }
  }
}

async function say(stream: Channel, problem: string | undefined): Promise<void> {
  if (stream.destroyed) return;
  if (problem !== undefined) stream.write(problem);
  stream.end();
  // a client that does not want to know has dropped it
  await finished(stream, { readable: false, cleanup: true }).catch(() => undefined);
}

/** Decimal; undefined for what is no port. */
export function parsePort(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port >= 1 && port <= MAX_PORT ? port : undefined;
}
