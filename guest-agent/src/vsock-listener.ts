import type { Socket } from 'node:net';
import { CID_HOST, LAST_PRIVILEGED_PORT, type VsockAddress } from '../../src/lib/vsock-address.ts';
import { pipeHandle, socketOf } from './descriptor.ts';
import { vsockPeer, vsockSocket } from './native.ts';

// Guests from 6.12.92 on reset a connection when more small packets queue up than its credit allows for.
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
const BACKLOG = 64;

export interface ListenOptions {
  /** Every user of the host can reach the port, so a caller proves by a privileged port of his own that he is root. */
  readonly privilegedOnly: boolean;
}

/** Listens on a vsock port of any address; works before the device exists. The host alone is let in. */
export function listenVsock(port: number, options: ListenOptions, onConnection: (socket: Socket) => void): void {
  const server = pipeHandle(vsockSocket(port, RECEIVE_BUFFER_BYTES), 'SERVER');
  server.onconnection = (status, client) => {
    if (status !== 0 || client === undefined) return;
    if (isAdmitted(peerOf(client.fd), options)) onConnection(socketOf(client));
    else client.close();
  };
  const failed = server.listen(BACKLOG);
  if (failed < 0) throw new Error(`vsock port ${port} cannot be listened on: libuv error ${failed}`);
}

/** Containers of this guest could come by the kernel's loopback, from an address that is not the host's. */
export function isAdmitted(peer: VsockAddress | undefined, { privilegedOnly }: ListenOptions): boolean {
  return peer?.cid === CID_HOST && (!privilegedOnly || peer.port <= LAST_PRIVILEGED_PORT);
}

function peerOf(fd: number): VsockAddress | undefined {
  try {
    return vsockPeer(fd);
  } catch {
    return undefined; // it is gone again
  }
}
