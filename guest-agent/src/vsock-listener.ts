import { Socket } from 'node:net';
import { vsockSocket } from './native.ts';

// Guests from 6.12.92 on reset a connection when more small packets queue up than its credit allows for.
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
const BACKLOG = 64;

interface PipeHandle {
  open(fd: number): number;
  listen(backlog: number): number;
  onconnection: (status: number, client: PipeHandle | undefined) => void;
}

interface PipeBinding {
  readonly Pipe: new (type: number) => PipeHandle;
  readonly constants: { readonly SOCKET: number; readonly SERVER: number };
}

/**
 * Listens on a vsock port of any address; works before the device exists. Node cannot wrap a vsock descriptor in
 * net.Socket, but libuv's pipes take any stream socket.
 */
export function listenVsock(port: number, onConnection: (socket: Socket) => void): void {
  const binding = (process as unknown as { binding(name: string): PipeBinding }).binding('pipe_wrap');
  const server = new binding.Pipe(binding.constants.SERVER);
  check(server.open(vsockSocket(port, RECEIVE_BUFFER_BYTES)), 'open');
  server.onconnection = (status, client) => {
    if (status !== 0 || client === undefined) return;
    // `handle` is how net.Server itself makes its sockets; the type declarations leave it out
    const options: object = { handle: client, readable: true, writable: true };
    onConnection(new Socket(options));
  };
  check(server.listen(BACKLOG), 'listen');
}

function check(status: number, call: string): void {
  if (status < 0) throw new Error(`vsock ${call} failed: libuv error ${status}`);
}
