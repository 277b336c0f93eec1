import { openStreaming, type StreamingOptions, type StreamingServer } from '../../../src/streaming/index.ts';
import type { Logger } from '../../../src/lib/logger.ts';
import { CONTAINER, fakeStreams, POD, type FakeOptions, type FakeStreams } from './fake-streams.ts';

export interface LogLine {
  readonly level: string;
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export interface TestServer extends AsyncDisposable {
  readonly server: StreamingServer & AsyncDisposable;
  readonly streams: FakeStreams;
  readonly log: readonly LogLine[];
  /** with stdin, stdout and stderr unless told otherwise */
  exec(command: readonly string[], wanted?: Partial<Wanted>): string;
  attach(wanted?: Partial<Wanted>): string;
  portForward(...ports: number[]): string;
}

interface Wanted {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

export const everything: Wanted = { stdin: true, stdout: true, stderr: true, tty: false };

export async function startServer(
  options: Partial<StreamingOptions> & { readonly fake?: FakeOptions } = {},
): Promise<TestServer> {
  const streams = fakeStreams(options.fake);
  const lines: LogLine[] = [];
  const server = await openStreaming({
    address: '127.0.0.1',
    port: 0,
    idleTimeoutMs: 60_000,
    streams,
    log: memoryLogger(lines),
    ...options,
  });
  return {
    server,
    streams,
    log: lines,
    exec: (command, wanted) => server.execUrl({ containerId: CONTAINER, command, ...everything, ...wanted }),
    attach: (wanted) => server.attachUrl({ containerId: CONTAINER, ...everything, ...wanted }),
    portForward: (...ports) => server.portForwardUrl({ sandboxId: POD, ports }),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      streams[Symbol.dispose]();
    },
  };
}

/** `onLine` is called after each line; children's own fields are in theirs. */
export function memoryLogger(lines: LogLine[], onLine: () => void = () => undefined, own: object = {}): Logger {
  const at =
    (level: string) =>
    (fields: object, message: string): void => {
      lines.push({ level, fields: { ...own, ...fields }, message });
      onLine();
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => memoryLogger(lines, onLine, { ...own, ...fields }),
  };
}

/** Keeps nothing but how much was said. */
export function countingLogger() {
  const counts = { debug: 0, info: 0, warn: 0, error: 0 };
  const log: Logger = {
    debug: () => void counts.debug++,
    info: () => void counts.info++,
    warn: () => void counts.warn++,
    error: () => void counts.error++,
    child: () => log,
  };
  return { log, counts };
}
