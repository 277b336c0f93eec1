import { Writable } from 'node:stream';
import { writerOf } from './descriptor.ts';

/** A process's standard input. What comes when nobody reads it any more is dropped. */
export interface ProcessInput {
  /** `done`: it has been taken */
  write(data: Buffer, done: () => void): void;
  end(): void;
}

/** Takes over the write end of a pipe. */
export function pipeInput(fd: number): ProcessInput {
  const socket = writerOf(fd);
  socket.on('error', () => socket.destroy()); // the process has closed its end
  return {
    write: (data, done) => {
      if (socket.writable) socket.write(data, () => done());
      else done();
    },
    end: () => void socket.end(),
  };
}

/** For pipe(); `end` instead of the input's own. */
export function inputSink(input: ProcessInput, end: () => void = () => input.end()): Writable {
  return new Writable({
    write: (data: Buffer, _encoding, done) => input.write(data, done),
    final: (done) => {
      end();
      done();
    },
  });
}
