import type { PodContext } from './context.ts';
import type { ProcessSession } from './contracts.ts';
import { requireStreamable } from './live.ts';

/** An SFTP server in a running container's root. */
export async function sftp(context: PodContext, id: string, signal: AbortSignal): Promise<ProcessSession> {
  const { live } = requireStreamable(context, id);
  return await live.agent.sftp(id, signal);
}
