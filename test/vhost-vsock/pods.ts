import { runPod, type TestPod } from '../support/pods.ts';

/** What was measured, in the order of measuring. */
export type Timings = Map<string, string>;

export async function timed<T>(times: Timings, what: string, body: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await body();
  times.set(what, `${Math.round(performance.now() - started)} ms`);
  return result;
}

export const runDense = (daemon: TestPod['daemon'], name: string): Promise<TestPod> =>
  runPod(daemon, name, {}, 'caisson-dense');
