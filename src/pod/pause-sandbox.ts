import { CaissonError } from '../lib/errors.ts';
import { syncClock } from './clock.ts';
import type { PodContext } from './context.ts';
import { requireLive } from './live.ts';
import { askContainers } from './recover.ts';
import { goOn, standStill } from './supervise.ts';

/** the guest's time to take the host's clock over */
const CLOCK_MS = 20_000;

/** Stops the VM's processors. Idempotent. */
export async function pauseSandbox(context: PodContext, id: string): Promise<void> {
  await context.locks.run(id, async () => {
    const known = context.liveSandboxes.get(id);
    if (known?.standstill && !known.stopping) return;
    const live = requireLive(context, id);
    // noted first: a daemon that finds the VM so shall know that it hangs on purpose
    context.sandboxes.update(id, { paused: true });
    standStill(live);
    try {
      await live.vm.pause();
    } catch (error) {
      goOn(live);
      context.sandboxes.observe(id, { paused: false });
      throw error;
    }
  });
}

/** Lets the VM go on, with the right time. Idempotent. */
export async function resumeSandbox(context: PodContext, id: string): Promise<void> {
  await context.locks.run(id, async () => {
    const live = context.liveSandboxes.get(id);
    if (!live?.standstill || live.stopping) {
      requireLive(context, id);
      return;
    }
    await live.vm.resume();
    goOn(live);
    context.sandboxes.observe(id, { paused: false });
    try {
      await syncClock(live, true, AbortSignal.timeout(CLOCK_MS));
    } catch (cause) {
      throw new CaissonError('unavailable', `sandbox ${id} goes on, but its guest did not set its clock`, { cause });
    } finally {
      if (live.unknown) await askContainers(context, id, live);
    }
  });
}
