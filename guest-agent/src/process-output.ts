import type { Socket } from 'node:net';

/** Where a process's output goes. */
export interface OutputSink {
  /** false: no more until `drained` */
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

/** Hands on what comes from a pipe or a terminal, no faster than the sink takes it. */
export function forward(socket: Socket, sink: OutputSink): ForwardedOutput {
  let active = true;
  socket.on('data', (data: Buffer) => {
    active = true;
    if (sink.write(data)) return;
    socket.pause();
    void sink.drained().then(() => {
      active = true;
      socket.resume();
    });
  });
  const ended = new Promise<void>((resolve) => {
    socket.once('error', () => socket.destroy());
    socket.once('end', resolve).once('close', resolve);
  });
  const wasActive = (): boolean => {
    const was = active || socket.isPaused();
    active = false;
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
