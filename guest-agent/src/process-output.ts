import type { Socket } from 'node:net';
import { MAX_OUTPUT_DATA_BYTES } from '../../src/lib/credit.ts';
import { readInto } from './descriptor.ts';
import { setPipeSize } from './native.ts';
import { controlCalls } from './precedence.ts';

/** Where a process's output goes. */
export interface OutputSink {
  /** Takes all of it; false: no more until `drained`. */
  write(data: Buffer): boolean;
  drained(): Promise<void>;
}

export interface ForwardedOutput {
  readonly socket: Socket;
  /** everything has been handed on */
  readonly ended: Promise<void>;
  /** whether something has come since it was last asked, or could not because the sink is waited for */
  wasActive(): boolean;
}

/** How long a stream that processes the command left behind hold open may be silent. */
const QUIET_LOOKS = 5;
/** Looks are counted, not time: between two of them what lies in a pipe is read, however busy the agent is. */
const LOOK_MS = 100;

/** Hands on what comes from a terminal or the like, no faster than the sink takes it. */
export function forward(socket: Socket, sink: OutputSink): ForwardedOutput {
  const hand = new Handing(sink, () => socket.resume());
  socket.on('data', (data: Buffer) => {
    if (!hand.on(data)) socket.pause();
  });
  return forwarded(socket, hand);
}

/** Its writer goes on while the agent does other things, and the agent reads much at once. */
const PIPE_BYTES = 512 * 1024;
/** Everything is read into it: what comes is handed on before anything else is read. */
export const sharedBuffer = Buffer.alloc(MAX_OUTPUT_DATA_BYTES);

/** As `forward`, of a pipe, which it takes over; the sink must copy what it gets. */
export function forwardPipe(fd: number, sink: OutputSink): ForwardedOutput {
  setPipeSize(fd, PIPE_BYTES);
  const hand = new Handing(sink, () => socket.resume());
  const socket = readInto(sharedBuffer, fd, (data) => hand.on(data));
  socket.resume();
  return forwarded(socket, hand);
}

/** Passes on to a sink what is read, which `resume` lets go on once the sink has asked for a pause. */
export class Handing {
  /** something has come, or could not because the sink is waited for */
  active = true;
  waiting = false;
  readonly #sink: OutputSink;
  readonly #resume: () => void;

  constructor(sink: OutputSink, resume: () => void) {
    this.#sink = sink;
    this.#resume = resume;
  }

  /** false: no more until it resumes */
  on(data: Buffer): boolean {
    this.active = true;
    const taken = this.#sink.write(data);
    const others = controlCalls.over(data.length);
    if (taken && !others) return true;
    this.waiting = true;
    void this.#goOn(taken, others);
    return false;
  }

  async #goOn(taken: boolean, others: Promise<void> | undefined): Promise<void> {
    if (!taken) await this.#sink.drained();
    await others;
    this.waiting = false;
    this.active = true;
    this.#resume();
  }
}

function forwarded(socket: Socket, hand: Handing): ForwardedOutput {
  const ended = new Promise<void>((resolve) => {
    socket.once('error', () => socket.destroy());
    socket.once('end', resolve).once('close', resolve);
  });
  const wasActive = (): boolean => {
    const was = hand.active || hand.waiting;
    hand.active = false;
    return was;
  };
  return { socket, ended, wasActive };
}

/**
 * Returns when all of an ended process's output has been handed on, or nothing comes any more: what the process left
 * behind may hold its streams open. An abort ends it at once.
 */
export async function drain(outputs: readonly ForwardedOutput[], signal: AbortSignal): Promise<void> {
  const stop = (): void => outputs.forEach(({ socket }) => socket.destroy());
  let quiet = 0;
  const look = setInterval(() => {
    const active = outputs.filter((output) => output.wasActive());
    quiet = active.length > 0 ? 0 : quiet + 1;
    if (quiet >= QUIET_LOOKS) stop();
  }, LOOK_MS);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  await Promise.all(outputs.map(({ ended }) => ended));
  signal.removeEventListener('abort', stop);
  clearInterval(look);
}
