import type { Socket } from 'node:net';
import { pipeHandle, socketOf } from './descriptor.ts';
import { vsockSocket } from './native.ts';

// Guests from 6.12.92 on reset a connection when more small packets queue up than its credit allows for.
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
const BACKLOG = 64;

/** Listens on a vsock port of any address; works before the device exists. */
export function listenVsock(port: number, onConnection: (socket: Socket) => void): void {
  const server = pipeHandle(vsockSocket(port, RECEIVE_BUFFER_BYTES), 'SERVER');
  server.onconnection = (status, client) => {
    if (status === 0 && client !== undefined) onConnection(socketOf(client));
  };
  const failed = server.listen(BACKLOG);
  if (failed < 0) throw new Error(`vsock port ${port} cannot be listened on: libuv error ${failed}`);
}
