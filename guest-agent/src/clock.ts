import type { AdjustClockRequest__Output } from '../../proto/generated/agent/caisson/agent/v1/AdjustClockRequest.ts';
import { setRealTime, slewRealTime } from './native.ts';

const NS_PER_MS = 1_000_000n;

/** A clock that is better than this was set with more care than a request that has been under way can do. */
const GOOD_NS = 500n * NS_PER_MS;

export const nowNs = (): bigint => BigInt(Date.now()) * NS_PER_MS;

/** Returns the time after it. */
export function adjustClock({ by_ns, slowly }: AdjustClockRequest__Output): bigint {
  const by = BigInt(by_ns);
  if (slowly) slewRealTime(by);
  else if (by !== 0n) setRealTime(nowNs() + by);
  return nowNs();
}

/** To about this time. */
export function setClock(time: bigint): void {
  const ahead = nowNs() - time;
  if (ahead > GOOD_NS || ahead < -GOOD_NS) setRealTime(time);
}
