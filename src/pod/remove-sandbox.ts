import type { PodContext } from './context.ts';
import { forgetContainer } from './remove-container.ts';
import { stopNow } from './stop-sandbox.ts';

/** Stops the sandbox if it is not, removes its containers by force and frees its name. Idempotent. */
export async function removeSandbox(context: PodContext, id: string): Promise<void> {
  // in one go: one that somebody starts again in between would lose its record while it runs
  await context.locks.run(id, async () => {
    await stopNow(context, id);
    if (!context.sandboxes.has(id)) return;
    for (const [containerId, record] of [...context.containers.entries()]) {
      if (record.sandboxId === id) forgetContainer(context, containerId);
    }
    context.sandboxes.delete(id);
  });
}
