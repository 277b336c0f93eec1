import type { PodContext } from './context.ts';
import { requireGoing } from './live.ts';
import { stopContainer } from './stop-container.ts';
import { releaseVolumes } from './volumes.ts';

/** Kills the container if it runs, deletes its files in the guest and frees its name. Idempotent. */
export async function removeContainer(context: PodContext, id: string): Promise<void> {
  if (!context.containers.has(id)) return;
  await stopContainer(context, id, 0, new AbortController().signal);
  await context.locks.run(id, async () => {
    if (!context.containers.has(id)) return;
    const { sandboxId } = context.containers.get(id);
    const live = context.liveSandboxes.get(sandboxId);
    if (live) requireGoing(sandboxId, live);
    // of a stopped sandbox nothing is left to remove
    if (live && !live.stopping && context.sandboxes.get(sandboxId).state === 'ready')
      await live.agent.removeContainer(id).catch((error: unknown) => {
        // the VM is being stopped meanwhile, or has ended
        if (!live.stopping && context.liveSandboxes.get(sandboxId) === live) throw error;
      });
    await releaseVolumes(context, sandboxId, id);
    forgetContainer(context, id);
  });
}

/** The daemon's own part of a removal. */
export function forgetContainer(context: PodContext, id: string): void {
  context.imageHolds.get(id)?.[Symbol.dispose]();
  context.imageHolds.delete(id);
  context.containers.delete(id);
}
