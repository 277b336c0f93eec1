import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { isIPv6, type Socket } from 'node:net';
import { CaissonError, describeError } from '../lib/errors.ts';
import type { StreamingOptions } from './contracts.ts';

/** `ms` for a client to say what it wants, and to read that it cannot have it */
export const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;
const MAX_CONNECTIONS = 4096;

export interface HttpServer extends AsyncDisposable {
  readonly server: Server;
  /** such as `http://127.0.0.1:34567` */
  readonly baseUrl: string;
}

/** Listens; its end ends all connections. `failed_precondition` when it cannot. */
export async function openHttpServer(options: StreamingOptions): Promise<HttpServer> {
  const server = await createHttpServer(options);
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  const baseUrl = await listen(server, options);
  return {
    server,
    baseUrl,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function createHttpServer({ tls }: StreamingOptions): Promise<Server> {
  const options = {
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: REQUEST_TIMEOUT_MS / 2,
  };
  const server = tls ? await createWithTls(tls, options) : createServer(options);
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

async function createWithTls(tls: NonNullable<StreamingOptions['tls']>, options: ServerOptions): Promise<Server> {
  const { certFile, keyFile } = tls;
  try {
    const pair = { cert: await readFile(certFile), key: await readFile(keyFile) };
    return createTlsServer({ ...options, ...pair, handshakeTimeout: REQUEST_TIMEOUT_MS });
  } catch (error) {
    throw new CaissonError('failed_precondition', `cannot use the TLS files of streams: ${describeError(error)}`, {
      cause: error,
      hint: 'streaming.tls_cert and streaming.tls_key name them',
    });
  }
}

async function listen(server: Server, { address, port, tls }: StreamingOptions): Promise<string> {
  try {
    const listening = once(server, 'listening');
    server.listen(port, address);
    await listening;
  } catch (error) {
    throw new CaissonError('failed_precondition', `cannot serve streams on ${address}: ${describeError(error)}`, {
      cause: error,
      hint: 'streaming.address and streaming.port say where',
    });
  }
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new CaissonError('internal', 'the server has no TCP address');
  const host = isIPv6(bound.address) ? `[${bound.address}]` : bound.address;
  return `${tls ? 'https' : 'http'}://${host}:${bound.port}`;
}
