import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { WebSocket, type ClientOptions } from 'ws';
import type { Config } from '../../config/schema.ts';
import { CaissonError } from '../../lib/errors.ts';

/** `ms` for the daemon's answer */
const HANDSHAKE_MS = 30_000;
/** `ms` between pings: a connection on which nothing moves for long is closed by the daemon */
const PING_MS = 30_000;
const PROTOCOL_HEADER = 'sec-websocket-protocol';
const NO_SUCH_STREAM = 404;

/** Opens a URL that the daemon gave out. The socket is paused: resume it when its handlers are there. */
export async function openWebSocket(url: string, protocol: string, config: Config): Promise<WebSocket> {
  const options: ClientOptions = {
    // ws itself refuses protocols with a slash in their names, such as SPDY/3.1+portforward.k8s.io
    headers: { [PROTOCOL_HEADER]: protocol },
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_MS,
    ...(await tlsOptions(config)),
  };
  const socket = new WebSocket(url.replace(/^http/, 'ws'), options);
  let agreed: string | undefined;
  socket.on('upgrade', ({ headers }: IncomingMessage) => {
    agreed = headers[PROTOCOL_HEADER];
    delete headers[PROTOCOL_HEADER];
  });
  await opened(socket);
  if (agreed === protocol) return keepAlive(socket);
  socket.terminate();
  throw new CaissonError('internal', `the daemon speaks ${agreed ?? 'nothing'}, not ${protocol}`);
}

/** The daemon's own certificate is the proof, whoever has signed it and whatever names it is for. */
async function tlsOptions({ streaming }: Config): Promise<ClientOptions> {
  if (streaming.tls_cert === '') return {};
  const ca = await readFile(streaming.tls_cert);
  const trust: ClientOptions & { readonly allowPartialTrustChain: boolean } = {
    ca,
    allowPartialTrustChain: true,
    // nothing is wrong with it
    checkServerIdentity: () => false,
  };
  return trust;
}

async function opened(socket: WebSocket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('open', () => {
    socket.pause();
    resolve();
  });
  socket.on('error', (cause) => {
    reject(new CaissonError('unavailable', `the daemon's stream cannot be opened: ${cause.message}`, { cause }));
  });
  socket.once('unexpected-response', (_request, response: IncomingMessage) => {
    void refusal(response).then((error) => {
      socket.terminate();
      reject(error);
    });
  });
  await promise;
}

async function refusal(response: IncomingMessage): Promise<CaissonError> {
  const said = await text(response).catch(() => '');
  if (response.statusCode !== NO_SUCH_STREAM) {
    return new CaissonError('internal', `the daemon refused the stream: ${response.statusCode} ${said}`.trim());
  }
  return new CaissonError('unavailable', 'the daemon does not know this stream any more', {
    hint: 'try again: a URL is good once, for a minute, and not after a restart of the daemon',
  });
}

function keepAlive(socket: WebSocket): WebSocket {
  const pinging = setInterval(() => socket.ping(), PING_MS).unref();
  socket.once('close', () => clearInterval(pinging));
  return socket;
}
