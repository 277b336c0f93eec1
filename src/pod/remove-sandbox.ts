import type { PodContext } from './context.ts';
import { forgetContainer } from './remove-container.ts';
import { stopSandbox } from './stop-sandbox.ts';

/** Stops the sandbox if it is not, removes its containers by force and frees its name. Idempotent. */
export async function removeSandbox(context: PodContext, id: string): Promise<void> {
  if (!context.sandboxes.has(id)) return;
  await stopSandbox(context, id);
  await context.locks.run(id, async () => {
    if (!context.sandboxes.has(id)) return;
    for (const [containerId, record] of [...context.containers.entries()]) {
      if (record.sandboxId === id) forgetContainer(context, containerId);
    }
    context.sandboxes.delete(id);
  });
}
