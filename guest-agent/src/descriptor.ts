import { Socket } from 'node:net';

/** libuv's pipes, which take any stream descriptor: vsock, terminals, pipes. Node itself wraps some kinds only. */
export interface PipeHandle {
  readonly fd: number;
  open(fd: number): number;
  listen(backlog: number): number;
  close(): void;
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

/** The read end of a pipe, as a stream. */
export const readerOf = (fd: number): Socket => wrap(fd, true, false);

/**
 * As `readerOf`, into one buffer that all of them share: `take` must be done with it when it returns. False stops the
 * reading until `resume`.
 */
export function readInto(buffer: Buffer, fd: number, take: (data: Buffer) => boolean): Socket {
  const onread = { buffer, callback: (length: number) => take(buffer.subarray(0, length)) };
  const options: object = { handle: pipeHandle(fd, 'SOCKET'), readable: true, writable: false, onread };
  return new Socket(options);
}

/** The write end of a pipe. */
export const writerOf = (fd: number): Socket => wrap(fd, false, true);

/** Both ways; the end of what is read does not end what is written. */
export const duplexOf = (fd: number): Socket => wrap(fd, true, true);

function wrap(fd: number, readable: boolean, writable: boolean): Socket {
  const options: object = { handle: pipeHandle(fd, 'SOCKET'), readable, writable, allowHalfOpen: true };
  return new Socket(options);
}
