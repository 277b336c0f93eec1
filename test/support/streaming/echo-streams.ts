/** A StreamService without processes: what goes in comes out. For very many sessions. */
import { duplexPair, PassThrough, type Duplex } from 'node:stream';
import { CaissonError } from '../../../src/lib/errors.ts';
import type { ProcessExit, ProcessSession, StreamService, StreamsWanted } from '../../../src/pod/contracts.ts';

export interface EchoStreams extends StreamService {
  /** sessions and forwarded connections that are open */
  open(): number;
}

/** A command ends with its input; odd ports are deaf. */
export function echoStreams(): EchoStreams {
  const sessions = new Set<ProcessSession>();
  const forwarded = new Set<Duplex>();
  const session = async (wanted: StreamsWanted): Promise<ProcessSession> => {
    const { promise: exited, resolve } = Promise.withResolvers<ProcessExit>();
    const stdin = wanted.stdin ? new PassThrough() : undefined;
    const stdout = wanted.stdout ? new PassThrough() : undefined;
    const stderr = wanted.stderr ? new PassThrough().end() : undefined;
    const end = (): void => resolve({ code: 0, signal: 0 });
    if (stdin && stdout) stdin.pipe(stdout);
    else stdout?.end();
    if (stdin) stdin.resume().on('end', end);
    else end();
    const made: ProcessSession = {
      stdin,
      stdout,
      stderr,
      exited,
      resize: () => undefined,
      signal: () => undefined,
      [Symbol.asyncDispose]: async () => {
        sessions.delete(made);
        for (const stream of [stdin, stdout, stderr]) stream?.destroy();
      },
    };
    sessions.add(made);
    return made;
  };
  return {
    open: () => sessions.size + forwarded.size,
    streamable: (id) => ({ id, tty: false, stdin: true }),
    forwardable: (id) => ({ id }),
    execStream: (_id, request) => session(request),
    attach: (_id, wanted) => session(wanted),
    vmExec: (_id, request) => session(request),
    sftp: () => session({ stdin: true, stdout: true, stderr: true }),
    portForward: async (_id, port) => {
      if (port % 2 === 1) throw new CaissonError('unavailable', `nobody listens on port ${port}`);
      const [near, far] = duplexPair();
      far.pipe(far);
      // a pair does not end together by itself
      near.on('close', () => far.destroy());
      forwarded.add(near);
      near.on('close', () => forwarded.delete(near));
      return near;
    },
  };
}
