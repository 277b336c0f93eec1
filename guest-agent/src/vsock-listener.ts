import type { Socket } from 'node:net';
import { CID_HOST, LAST_PRIVILEGED_PORT, type VsockAddress } from '../../src/lib/vsock-address.ts';
import { pipeHandle, socketOf, type PipeHandle } from './descriptor.ts';
import { unixListener, vsockPeer, vsockSocket } from './native.ts';

// Guests from 6.12.92 on reset a connection when more small packets queue up than its credit allows for.
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
const BACKLOG = 64;

export interface ListenOptions {
  /** Every user of the host can reach the port, so a caller proves by a privileged port of his own that he is root. */
  readonly privilegedOnly: boolean;
}

/** Listens on a vsock port of any address; works before the device exists. The host alone is let in. */
export function listenVsock(port: number, options: ListenOptions, onConnection: (socket: Socket) => void): void {
  listenOn(vsockSocket(port, RECEIVE_BUFFER_BYTES), (fd) => isAdmitted(peerOf(fd), options), onConnection);
}

/** As `listenVsock`, on a unix socket that is bound to `path`, for whoever gets there. */
export function listenUnix(path: string, onConnection: (socket: Socket) => void): Disposable {
  const admits = (fd: number): boolean => {
    peerOf(fd); // the host's connections take this way, which is to be known
    return true;
  };
  const server = listenOn(unixListener(path), admits, onConnection);
  return { [Symbol.dispose]: () => server.close() };
}

function listenOn(fd: number, admits: (fd: number) => boolean, onConnection: (socket: Socket) => void): PipeHandle {
  const server = pipeHandle(fd, 'SERVER');
  server.onconnection = (status, client) => {
    if (status !== 0 || client === undefined) return;
    if (admits(client.fd)) onConnection(socketOf(client));
    else client.close();
  };
  const failed = server.listen(BACKLOG);
  if (failed < 0) throw new Error(`a socket cannot be listened on: libuv error ${failed}`);
  return server;
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
