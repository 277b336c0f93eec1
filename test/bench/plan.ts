import { CaissonError } from '../../src/lib/errors.ts';

/** How often everything is measured. */
export interface Plan {
  /** pairs of one pod at a time */
  readonly serial: { readonly pairs: number; readonly warmUps: number };
  readonly parallel: { readonly pairs: number; readonly warmUps: number; readonly pods: number };
  readonly idle: { readonly pods: number; readonly windowMs: number };
  readonly boot: { readonly cold: number; readonly clones: number };
}

const FULL: Plan = {
  serial: { pairs: 11, warmUps: 1 },
  parallel: { pairs: 3, warmUps: 1, pods: 8 },
  idle: { pods: 20, windowMs: 30_000 },
  boot: { cold: 3, clones: 7 },
};

/** Everything once, so that it cannot rot; its figures say nothing. */
const QUICK: Plan = {
  serial: { pairs: 1, warmUps: 0 },
  parallel: { pairs: 1, warmUps: 0, pods: 2 },
  idle: { pods: 2, windowMs: 1000 },
  boot: { cold: 1, clones: 1 },
};

/** `pods`: idle pods, instead of the plan's. Throws `invalid_argument` when that is not a number of pods. */
export function planOf(quick: boolean, pods: string | undefined): Plan {
  const plan = quick ? QUICK : FULL;
  if (pods === undefined) return plan;
  if (!/^[1-9]\d{0,3}$/.test(pods))
    throw new CaissonError('invalid_argument', `--pods: ${pods} is not a number from 1 to 9999`);
  return { ...plan, idle: { ...plan.idle, pods: Number(pods) } };
}
