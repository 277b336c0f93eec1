/** Joins a client's streams to a process, whatever transport they come by. */
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { orAborted } from '../lib/async.ts';
import type { ProcessSession, TerminalSize } from '../pod/contracts.ts';
import type { Outcome } from './status.ts';
import { ClientSizes } from './terminal-sizes.ts';

/**
 * `ms` without output after the command's end: then what still holds its output open was left behind by it. ssh and
 * others wait on, and hang with every `daemon &`.
 */
const LEFT_BEHIND_MS = 10_000;

/** The client's ends of the streams; those that it did not ask for are undefined. */
export interface CommandEnds {
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  readonly resize: Readable | undefined;
  /** aborted when the client is gone */
  readonly gone: AbortSignal;
}

/** `firstSize` waits for the client to tell its terminal's size, a moment at most. */
export type OpenProcess = (
  signal: AbortSignal,
  firstSize: () => Promise<TerminalSize | undefined>,
) => Promise<ProcessSession>;

/** Runs until the process has ended and its output is written, or the client is gone. Does not end the client's ends. */
export async function runCommand(open: OpenProcess, ends: CommandEnds): Promise<Outcome> {
  const sizes = new ClientSizes(ends.resize);
  try {
    await using session = await open(ends.gone, () => sizes.first());
    // the size first: what is typed may ask for it
    sizes.follow((size) => session.resize(size));
    return await follow(session, ends);
  } catch (error) {
    return { error };
  } finally {
    sizes.follow(() => undefined);
    // from here on, input goes nowhere; what is not read would stop the connection
    ends.stdin?.resume();
    ends.resize?.resume();
  }
}

async function follow(session: ProcessSession, ends: CommandEnds): Promise<Outcome> {
  const { gone } = ends;
  feed(ends.stdin, session.stdin);
  const outputs = [carry(session.stdout, ends.stdout), carry(session.stderr, ends.stderr)];
  const written = Promise.allSettled(outputs.map(({ done }) => done));
  const exit = await orAborted(session.exited, gone);
  const watch = setInterval(() => {
    for (const output of outputs) output.dropIfQuiet();
  }, LEFT_BEHIND_MS);
  try {
    await orAborted(written, gone);
  } finally {
    clearInterval(watch);
  }
  const failed = outputs.find((output) => output.failure());
  if (failed) return { error: failed.failure() };
  return { exitCode: exit.code };
}

/** Input until its end; when the process takes no more, the rest is dropped. */
function feed(source: Readable | undefined, sink: Writable | undefined): void {
  if (!source) return;
  if (!sink) {
    source.resume();
    return;
  }
  const drop = (): void => {
    source.unpipe(sink);
    source.resume();
  };
  sink.on('error', drop);
  sink.on('close', drop);
  // a client may reset its stdin instead of ending it
  const end = (): void => {
    if (!sink.writableEnded && !sink.destroyed) sink.end();
  };
  if (source.destroyed) {
    end();
    return;
  }
  source.on('close', end);
  source.pipe(sink);
}

interface Output {
  /** settles when nothing more will be written */
  readonly done: Promise<void>;
  /** of the process's side */
  failure(): Error | null;
  /** Gives the stream up when nothing has come since the last call, though the client reads. */
  dropIfQuiet(): void;
}

function carry(source: Readable | undefined, sink: Writable | undefined): Output {
  if (!source) return { done: Promise.resolve(), failure: () => null, dropIfQuiet: () => undefined };
  const done = finished(source, { writable: false, cleanup: true });
  // it may fail after its end, too; what counts is `errored`
  source.on('error', () => undefined);
  let moved = true;
  source.on('data', () => (moved = true));
  if (sink) {
    // the client has dropped this stream: so does the process's end of it
    sink.on('close', () => source.destroy());
    if (sink.destroyed) source.destroy();
    source.pipe(sink, { end: false });
  }
  return {
    done,
    failure: () => source.errored,
    dropIfQuiet: () => {
      if (!moved && sink?.writableNeedDrain !== true) source.destroy();
      moved = false;
    },
  };
}
