import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import koffi from 'koffi';
import { CaissonError } from './errors.ts';

/** Makes a FIFO that only its owner can open. */
export function makeFifo(path: string): void {
  const mkfifo = koffi.load('libc.so.6').func('int mkfifo(const char *path, unsigned int mode)');
  if (Number(mkfifo(path, 0o600)) < 0)
    throw new CaissonError('internal', `cannot make the FIFO ${path}: errno ${koffi.errno()}`);
}

/** The reading end. It ends when the last process that has it open for writing has ended; at once if there is none. */
export function readFifo(path: string): Socket {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return new Socket({ fd, readable: true, writable: false });
}

/** For another process to write to. It reads, too, so that a write finds a reader even when all others have gone. */
export function openFifoBothWays(path: string): Disposable & { readonly fd: number } {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}
