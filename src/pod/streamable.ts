import { CaissonError } from '../lib/errors.ts';
import { requireLive } from './create-container.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import type { ContainerRecord } from './records.ts';

/** Throws `failed_precondition` unless the container runs in a sandbox that answers. */
export function requireStreamable(
  context: PodContext,
  id: string,
): { readonly record: ContainerRecord; readonly live: LiveSandbox } {
  const record = context.containers.get(id);
  if (record.state !== 'running')
    throw new CaissonError('failed_precondition', `container ${id} is ${record.state}, not running`);
  return { record, live: requireLive(context, record.sandboxId) };
}
