import { CaissonError } from '../../src/lib/errors.ts';
import type { StreamPlan } from './streaming.ts';

/** How often everything is measured. */
export interface Plan {
  /** pairs of one pod at a time */
  readonly serial: { readonly pairs: number; readonly warmUps: number };
  readonly parallel: { readonly pairs: number; readonly warmUps: number; readonly pods: number };
  readonly idle: { readonly pods: number; readonly windowMs: number };
  readonly boot: { readonly cold: number; readonly clones: number };
  readonly streams: StreamPlan;
}

const FULL: Plan = {
  serial: { pairs: 11, warmUps: 1 },
  parallel: { pairs: 3, warmUps: 1, pods: 8 },
  idle: { pods: 20, windowMs: 30_000 },
  boot: { cold: 3, clones: 7 },
  streams: { mib: 256, keys: 300, execs: 50, stops: 5 },
};

/** Everything once, so that it cannot rot; its figures say nothing. */
const QUICK: Plan = {
  serial: { pairs: 1, warmUps: 0 },
  parallel: { pairs: 1, warmUps: 0, pods: 2 },
  idle: { pods: 2, windowMs: 1000 },
  boot: { cold: 1, clones: 1 },
  streams: { mib: 4, keys: 10, execs: 3, stops: 1 },
};

/** Instead of the plan's own numbers. */
export interface PlanOverrides {
  /** idle pods */
  readonly pods?: string | undefined;
  /** of one pod at a time; no more of many at once */
  readonly pairs?: string | undefined;
  /** of each bulk stream */
  readonly mib?: string | undefined;
}

/** Throws `invalid_argument` when an override is not a number. */
export function planOf(quick: boolean, overrides: PlanOverrides): Plan {
  const plan = quick ? QUICK : FULL;
  const pods = numberOf('--pods', overrides.pods, plan.idle.pods);
  const pairs = numberOf('--pairs', overrides.pairs, plan.serial.pairs);
  return {
    ...plan,
    serial: { ...plan.serial, pairs },
    parallel: { ...plan.parallel, pairs: Math.min(pairs, plan.parallel.pairs) },
    idle: { ...plan.idle, pods },
    streams: { ...plan.streams, mib: numberOf('--mib', overrides.mib, plan.streams.mib) },
  };
}

function numberOf(option: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new CaissonError('invalid_argument', `${option}: ${text} is not a number from 1 to 9999`);
}
