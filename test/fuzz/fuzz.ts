import { inspect } from 'node:util';
import { Random } from './random.ts';
import type { FuzzTarget } from './target.ts';

export interface FuzzOptions {
  /** of the first case; each case's own seed is the one before it and one more */
  readonly seed: number;
  readonly cases: number;
  /** after which no more cases are started */
  readonly ms: number;
  readonly say: (line: string) => void;
}

/** `ms` a case may take */
const CASE_TIMEOUT_MS = 20_000;

/** Stops at the first failure, whose seed it says. */
export async function fuzz(
  open: () => Promise<FuzzTarget>,
  { seed, cases, ms, say }: FuzzOptions,
): Promise<{ readonly passed: number; readonly failed: number }> {
  await using target = await open();
  say(`seed ${seed}`);
  const end = performance.now() + ms;
  let at = seed >>> 0;
  // what is thrown in nobody's arms fails the case during which it was
  let stray: unknown;
  const onStray = (error: unknown): void => void (stray ??= error);
  process.on('uncaughtException', onStray);
  process.on('unhandledRejection', onStray);
  let passed = 0;
  try {
    for (; passed < cases && performance.now() < end; passed++, at = (at + 1) >>> 0) {
      try {
        await limited(target.run(new Random(at)));
        if (stray !== undefined) throw new Error('something was thrown that nobody caught', { cause: stray });
      } catch (error) {
        say(`failed after ${passed} cases: --seed ${at} --cases 1`);
        say(inspect(error));
        return { passed, failed: 1 };
      }
    }
  } finally {
    process.off('uncaughtException', onStray);
    process.off('unhandledRejection', onStray);
  }
  say(`${passed} cases; ${target.summary()}`);
  return { passed, failed: 0 };
}

async function limited(running: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`the case hangs for ${CASE_TIMEOUT_MS} ms`)), CASE_TIMEOUT_MS);
  try {
    await Promise.race([running, promise]);
  } finally {
    clearTimeout(timer);
  }
}
