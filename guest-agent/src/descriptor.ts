import { Socket } from 'node:net';

/** libuv's pipes, which take any stream descriptor: vsock, terminals, pipes. Node itself wraps some kinds only. */
export interface PipeHandle {
  open(fd: number): number;
  listen(backlog: number): number;
  onconnection: (status: number, client: PipeHandle | undefined) => void;
}

interface PipeBinding {
  readonly Pipe: new (type: number) => PipeHandle;
  readonly constants: { readonly SOCKET: number; readonly SERVER: number };
}

const binding = (process as unknown as { binding(name: string): PipeBinding }).binding('pipe_wrap');

/** Takes a listening or a connected descriptor over. */
export function pipeHandle(fd: number, kind: 'SOCKET' | 'SERVER'): PipeHandle {
  const handle = new binding.Pipe(binding.constants[kind]);
  const failed = handle.open(fd);
  if (failed < 0) throw new Error(`descriptor ${fd} cannot be opened: libuv error ${failed}`);
  return handle;
}

/** A stream of it, both ways. */
export function socketOf(handle: PipeHandle): Socket {
  // `handle` is how net.Server itself makes its sockets; the type declarations leave it out
  const options: object = { handle, readable: true, writable: true };
  return new Socket(options);
}

/** The read end of a pipe or the master of a terminal, as a stream. It ends with EIO when a terminal does. */
export function readerOf(fd: number): Socket {
  const options: object = { handle: pipeHandle(fd, 'SOCKET'), readable: true, writable: false };
  return new Socket(options);
}
