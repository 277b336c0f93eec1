import type { PodContext } from './context.ts';
import type { ProcessSession, StreamsWanted } from './contracts.ts';
import { requireStreamable } from './live.ts';

/** Joins a running container's own streams. */
export async function attach(
  context: PodContext,
  id: string,
  { stdin, stdout, stderr }: StreamsWanted,
  signal: AbortSignal,
): Promise<ProcessSession> {
  const { live } = requireStreamable(context, id);
  return await live.agent.attach(id, { stdin, stdout, stderr }, signal);
}
