import { constants } from 'node:os';
import { CaissonError } from '../../lib/errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Leaving extends Disposable {
  /** aborted by the first signal that asks this process to end */
  readonly signal: AbortSignal;
  /** 128 + n, as shells have it; 0 before */
  readonly exitCode: number;
}

/** Instead of ending at once, so that everything is given back first. A second signal does end at once. */
export function leaveOnSignals(): Leaving {
  const controller = new AbortController();
  let exitCode = 0;
  const leave = (signal: NodeJS.Signals): void => {
    if (exitCode !== 0) process.exit(exitCode);
    exitCode = 128 + constants.signals[signal];
    controller.abort(new CaissonError('cancelled', 'interrupted'));
  };
  for (const signal of SIGNALS) process.on(signal, leave);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    [Symbol.dispose]: () => {
      for (const signal of SIGNALS) process.off(signal, leave);
    },
  };
}
