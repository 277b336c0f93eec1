import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type ServerOptions, type WebSocket } from 'ws';
import { SLOW_READER_MS } from '../connection.ts';

/** `bytes` of one message from the client; Kubernetes' clients send some tens of KiB */
const MAX_MESSAGE = 4 * 1024 * 1024;

/** a client whose input has stood still for long has sent many pings meanwhile */
const MAX_PENDING_PONGS = 4096;

/** Options that the types do not know yet. */
interface Newer {
  readonly closeTimeout: number;
  readonly maxPendingAutoPongs: number;
}

/** Answers the handshake, in which the client's protocol was found acceptable. Never calls back for a bad one. */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
  onOpen: (webSocket: WebSocket) => void,
): void {
  const options: ServerOptions & Newer = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE,
    closeTimeout: SLOW_READER_MS,
    maxPendingAutoPongs: MAX_PENDING_PONGS,
  };
  const server = new WebSocketServer(options);
  // ws knows no protocols with a slash in their names, such as SPDY/3.1+portforward.k8s.io: it never sees them
  delete request.headers['sec-websocket-protocol'];
  if (protocol !== '') {
    server.on('headers', (headers: string[]) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  }
  server.handleUpgrade(request, socket, head, onOpen);
}
