import type { Duplex } from 'node:stream';
import { CaissonError } from '../lib/errors.ts';
import { requireLive } from './live.ts';
import type { PodContext } from './context.ts';

const MAX_PORT = 65_535;

/** Connects to a port of the pod. */
export async function portForward(
  context: PodContext,
  sandboxId: string,
  port: number,
  signal: AbortSignal,
): Promise<Duplex> {
  if (!Number.isInteger(port) || port < 1 || port > MAX_PORT)
    throw new CaissonError('invalid_argument', `port: ${port} is not a TCP port`);
  return await requireLive(context, sandboxId).agent.portForward(port, signal);
}
