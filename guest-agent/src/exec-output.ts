import { closeSync, readSync } from 'node:fs';
import { isErrno } from '../../src/lib/errors.ts';
import type { ProcessStreams } from './crun.ts';
import { readerOf } from './descriptor.ts';
import { setNonBlocking } from './native.ts';
import { drain, forward, sharedBuffer, type ForwardedOutput } from './process-output.ts';

export interface ExecOutput {
  /** false: stop reading until `drained` */
  write(stream: 'stdout' | 'stderr', data: Buffer): boolean;
  drained(): Promise<void>;
}

/** What a command prints. Its dispose closes the streams. */
export interface ExecReading extends Disposable {
  /** To be called when the command has ended; returns when all of its output has been handed on. */
  rest(signal: AbortSignal): Promise<void>;
}

/** Most commands of probes are over by then. */
const PROMPT_MS = 20;

/**
 * Reads what a short command has printed when it is over: to make streams of the pipes costs the agent more than to run
 * `true`. A longer one is read as it goes on.
 */
export function readExecOutput(streams: ProcessStreams, output: ExecOutput): ExecReading {
  const unread = new Map<'stdout' | 'stderr', number>();
  for (const stream of ['stdout', 'stderr'] as const) {
    const fd = streams[stream];
    if (fd !== undefined) unread.set(stream, fd);
  }
  const outputs: ForwardedOutput[] = [];
  const readOn = (): void => {
    for (const [stream, fd] of unread) {
      unread.delete(stream);
      const sink = { write: (data: Buffer) => output.write(stream, data), drained: () => output.drained() };
      outputs.push(forward(readerOf(fd), sink));
    }
  };
  const timer = setTimeout(readOn, PROMPT_MS);
  return {
    rest: async (signal) => {
      clearTimeout(timer);
      for (const [stream, fd] of unread) {
        if (!readToEnd(fd, (data) => output.write(stream, data))) continue;
        unread.delete(stream);
        closeSync(fd);
      }
      readOn();
      if (outputs.length > 0) await drain(outputs, signal);
    },
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      for (const fd of unread.values()) closeSync(fd);
      for (const { socket } of outputs) socket.destroy();
    },
  };
}

/** what a pipe holds unless it is told otherwise */
const PIPE_BYTES = 64 * 1024;

/** False when somebody still holds the pipe open; what the command left in it has been taken then, too. */
function readToEnd(fd: number, take: (data: Buffer) => void): boolean {
  setNonBlocking(fd);
  try {
    for (let taken = 0; taken <= PIPE_BYTES;) {
      const length = readSync(fd, sharedBuffer);
      if (length === 0) return true;
      take(Buffer.from(sharedBuffer.subarray(0, length)));
      taken += length;
    }
    return false;
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return false;
    throw error;
  }
}
