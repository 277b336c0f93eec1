import type { AgentClient } from '../agent/contracts.ts';
import type { Logger } from '../lib/logger.ts';

const INTERVAL_MS = 60_000;
/** A difference that nobody minds. */
const GOOD_MS = 5;
/** More than this is a machine that has slept, or a clock that was set: there is no slow way back. */
const JUMP_MS = 500;
/** An answer that took longer says too little; another one may be quicker. */
const QUICK_MS = 20;
const LOOKS = 4;

export interface Clocked {
  readonly agent: Pick<AgentClient, 'adjustClock'>;
}

/**
 * Brings the guest's clock to the host's, as exactly as the quickest of a few answers tells. `atOnce`: nothing runs in
 * the guest yet that minds a clock that jumps.
 */
export async function syncClock({ agent }: Clocked, atOnce: boolean, signal: AbortSignal): Promise<void> {
  const { aheadMs, errorMs } = await difference(agent, signal);
  if (Math.abs(aheadMs) <= Math.max(errorMs, GOOD_MS)) return;
  await agent.adjustClock(-aheadMs, { slowly: !atOnce && Math.abs(aheadMs) < JUMP_MS }, signal);
}

interface Difference {
  /** of the guest's clock */
  readonly aheadMs: number;
  /** at most */
  readonly errorMs: number;
}

async function difference(agent: Clocked['agent'], signal: AbortSignal): Promise<Difference> {
  let best: Difference = { aheadMs: 0, errorMs: Infinity };
  for (let i = 0; i < LOOKS && best.errorMs > QUICK_MS / 2; i++) {
    const asked = Date.now();
    const guest = await agent.adjustClock(0, { slowly: false }, signal);
    const answered = Date.now();
    const errorMs = (answered - asked) / 2;
    if (errorMs < best.errorMs) best = { aheadMs: guest - (asked + errorMs), errorMs };
  }
  return best;
}

/** Keeps the clocks of all VMs together with the host's; a VM that does not answer is asked again later. */
export function keepClocks(all: () => Iterable<Clocked>, log: Logger): Disposable {
  const end = new AbortController();
  const busy = new Set<Clocked>();
  const look = async (vm: Clocked): Promise<void> => {
    if (busy.has(vm)) return;
    busy.add(vm);
    try {
      await syncClock(vm, false, end.signal);
    } catch (error) {
      log.debug({ err: error }, "a VM's clock could not be compared with the host's");
    } finally {
      busy.delete(vm);
    }
  };
  const timer = setInterval(() => {
    for (const vm of all()) void look(vm);
  }, INTERVAL_MS).unref();
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
      end.abort();
    },
  };
}
