import type { Socket } from 'node:net';
import { isErrno } from '../../src/lib/errors.ts';
import { duplexOf } from './descriptor.ts';
import { setTerminalSize } from './native.ts';
import type { ProcessInput } from './process-input.ts';

const END_OF_TRANSMISSION = '\x04';
const NEWLINE = 0x0a;
const MAX_CELLS = 65_535;

/** The master of a process's terminal. Destroying `socket` hangs up: the foreground processes get SIGHUP. */
export class Terminal implements ProcessInput {
  /** ends when no process has the terminal open any more */
  readonly socket: Socket;
  readonly #fd: number;
  /** something stands on the line that the process has not got yet */
  #lineBegun = false;

  constructor(fd: number) {
    this.#fd = fd;
    this.socket = duplexOf(fd);
    const destroy = this.socket.destroy.bind(this.socket);
    // a terminal ends with EIO, which would take with it what has been read and not yet been passed on
    this.socket.destroy = (error?: Error) => {
      if (!isErrno(error, 'EIO')) return destroy(error);
      this.socket.push(null);
      return this.socket;
    };
    this.socket.once('end', () => destroy());
  }

  resize(columns: number, rows: number): void {
    if (this.socket.destroyed) return; // the descriptor may be another's by now
    setTerminalSize(this.#fd, Math.min(columns, MAX_CELLS), Math.min(rows, MAX_CELLS));
  }

  write(data: Buffer, done: () => void): void {
    this.#lineBegun = data.at(-1) !== NEWLINE;
    if (this.socket.destroyed) done();
    else this.socket.write(data, () => done());
  }

  /** What a person does by Ctrl-D: on a line that has been begun, the first one only hands the line over. */
  end(): void {
    if (this.socket.destroyed) return;
    this.socket.write(this.#lineBegun ? END_OF_TRANSMISSION + END_OF_TRANSMISSION : END_OF_TRANSMISSION);
  }
}
