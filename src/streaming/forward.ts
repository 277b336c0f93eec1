/** Joins one forwarded connection to its target, whatever transport it comes by. */
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { describeError } from '../lib/errors.ts';

/** The client's ends. */
export interface ForwardEnds {
  readonly data: Duplex;
  /** Says on the error stream what went wrong, if anything did, and ends it. */
  readonly report: (problem: string | undefined) => Promise<void>;
  /** the client can end its direction alone; otherwise all is over when the target has said its last */
  readonly halfCloses: boolean;
}

/**
 * Runs until both directions are over, or one side has dropped the connection. Each direction ends by itself: what the
 * client ends is ended towards the target, and the other way round. The report comes before the end of the data.
 */
export async function forward(dial: () => Promise<Duplex>, ends: ForwardEnds, where: string): Promise<void> {
  const { data, report } = ends;
  let target: Duplex;
  try {
    target = await dial();
  } catch (error) {
    // what the client had to say goes nowhere
    data.resume();
    await report(`error forwarding ${where}: ${describeError(error)}`);
    await endOf(data);
    return;
  }
  try {
    await join(ends, target, (error) =>
      report(error === undefined ? undefined : `error forwarding ${where}: ${describeError(error)}`),
    );
  } finally {
    target.destroy();
    data.destroy();
  }
}

async function join(ends: ForwardEnds, target: Duplex, report: (error: unknown) => Promise<void>): Promise<void> {
  const { data, halfCloses } = ends;
  let failure: unknown;
  target.on('error', (error) => {
    failure = error;
  });
  if (data.destroyed) return;
  const { promise: dropped, resolve: drop } = Promise.withResolvers<void>();
  data.on('close', drop);
  // of the target: no more input is taken, while its output may go on
  target.on('close', () => {
    data.unpipe(target);
    data.resume();
  });
  data.pipe(target);
  target.pipe(data, { end: false });
  const outputDone = finished(target, { writable: false, cleanup: true }).catch((error: unknown) => {
    failure ??= error;
  });
  await Promise.race([outputDone, dropped]);
  if (data.destroyed) return;
  await report(failure);
  data.end();
  // until the client ends its side, too, or resets
  const rest = finished(data, { readable: halfCloses, cleanup: true });
  await Promise.race([rest.catch(() => undefined), dropped]);
}

async function endOf(data: Duplex): Promise<void> {
  if (data.destroyed) return;
  data.end();
  // cut off by the client: all the same
  await finished(data, { readable: false, cleanup: true }).catch(() => undefined);
  data.destroy();
}
