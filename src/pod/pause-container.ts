import type { PodContext } from './context.ts';
import { requireRunning } from './live.ts';

/** Freezes the processes of a running container. Idempotent. */
export async function pauseContainer(context: PodContext, id: string): Promise<void> {
  await context.locks.run(id, async () => {
    const { live } = requireRunning(context, id);
    // noted first: what is frozen and not known as such would hang whoever uses it
    context.containers.update(id, { paused: true });
    try {
      await live.agent.freezeContainer(id, true);
    } catch (error) {
      context.containers.observe(id, { paused: false });
      throw error;
    }
  });
}

/** Idempotent; nothing for a container that has ended meanwhile. */
export async function unpauseContainer(context: PodContext, id: string): Promise<void> {
  await context.locks.run(id, async () => {
    if (!context.containers.has(id) || context.containers.get(id).state === 'exited') return;
    const { live, record } = requireRunning(context, id);
    if (!record.paused) return;
    await live.agent.freezeContainer(id, false);
    context.containers.observe(id, { paused: false });
  });
}
