/** Joins a channel to a process in a container. */
import { orAborted } from '../lib/async.ts';
import type { ProcessExit, ProcessSession } from '../pod/contracts.ts';
import type { ChannelEnds } from './channel-ends.ts';
import { carry, feed } from './copy.ts';

/** How a command ended, or why it could not be run to its end. */
export type Ending = { readonly exit: ProcessExit } | { readonly error: unknown };

/** `open`'s process has ended and all of its output is written, or the client is gone. `onOpen` may steer it until then. */
export async function runProcess(
  ends: ChannelEnds,
  open: (signal: AbortSignal) => Promise<ProcessSession>,
  onOpen: (session: ProcessSession) => void = () => undefined,
): Promise<Ending> {
  try {
    await using session = await open(ends.gone);
    onOpen(session);
    feed(ends.input, session.stdin);
    const outputs = Promise.all([carry(session.stdout, ends.stdout), carry(session.stderr, ends.stderr)]);
    outputs.catch(() => undefined); // also when the exit fails first
    const exit = await orAborted(session.exited, ends.gone);
    await orAborted(outputs, ends.gone);
    return { exit };
  } catch (error) {
    return { error };
  } finally {
    ends.input.resume();
  }
}
