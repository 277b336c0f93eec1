/** Joins a channel to a connection to a port of a pod. */
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { orAborted } from '../lib/async.ts';
import type { ChannelEnds } from './channel-ends.ts';
import { carry, feed } from './copy.ts';

/** Until both directions have ended, or one side is gone; each direction ends by itself. Throws what broke it off. */
export async function runForward(ends: ChannelEnds, target: Duplex): Promise<void> {
  try {
    const output = carry(target, ends.stdout).then(() => ends.eof());
    feed(ends.input, target);
    const input = finished(target, { readable: false, cleanup: true });
    await orAborted(Promise.all([output, input]), ends.gone);
  } finally {
    target.on('error', () => undefined);
    target.destroy();
  }
}
