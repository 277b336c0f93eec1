import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { exists } from '../../src/lib/files.ts';
import type { TestDaemon } from './daemon.ts';
import { netnsOf, processesOf } from './resources.ts';
import { Steps } from './steps.ts';

const LOG_TAIL_LINES = 25;

/** What remembers what was done with it in a step, to tell when that has failed. */
export interface Client {
  forget(): void;
  describe(): string;
}

/** Where a story is told: a test against a real daemon, from the command line. */
export interface Stage {
  readonly steps: Steps;
  /** disposed of when the story is over, however it ends */
  readonly lab: AsyncDisposableStack;
  readonly interrupted: AbortSignal;
  /** The end of its log is shown below each failure; what it has left is looked for when the lab is gone. */
  watch(daemon: TestDaemon): void;
  /** Told of each step, and asked at each failure. */
  listenTo(client: Client): void;
}

export interface StoryOptions {
  /** without which it cannot be told */
  readonly programs: readonly string[];
  /** how to get them */
  readonly hint: string;
  /** more that must not be left; throws */
  readonly leftovers?: (daemon: TestDaemon) => Promise<void>;
}

/** Tells a story in the section `start`; prints how it went. Returns the exit code. */
export async function runStory(options: StoryOptions, tell: (stage: Stage) => Promise<void>): Promise<number> {
  for (const program of options.programs) {
    if (await exists(program)) continue;
    process.stderr.write(`${program} is missing; ${options.hint}\n`);
    return 1;
  }
  const startedMs = performance.now();
  const interrupted = interruption();
  let daemon: TestDaemon | undefined;
  let explain = async (): Promise<string> => '';
  let client: Client | undefined;
  const steps = new Steps({ signal: interrupted, explain: () => explain(), onStart: () => client?.forget() });
  {
    await using lab = new AsyncDisposableStack();
    const watch = (watched: TestDaemon): void => {
      daemon = watched;
      explain = async () => [client?.describe() ?? '', await lastWords(watched)].filter(Boolean).join('\n');
    };
    const listenTo = (one: Client): void => void (client = one);
    await steps.section('start', () => tell({ steps, lab, interrupted, watch, listenTo }));
  }
  explain = async () => '';
  if (daemon) await nothingIsLeft(steps, daemon, interrupted, options);
  if (interrupted.aborted) process.stdout.write('interrupted\n');
  process.stdout.write(`took ${Math.round((performance.now() - startedMs) / 1000)} s\n${steps.summary()}\n`);
  return steps.failed > 0 || interrupted.aborted ? 1 : 0;
}

/** Aborts at a signal, or when whoever reads our output has left: what was started must not stay behind. */
export function interruption(): AbortSignal {
  const interrupted = new AbortController();
  // for good: what starts programs (execa) ends this process at a signal that nobody listens to
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());
  process.stdout.on('error', () => interrupted.abort());
  return interrupted.signal;
}

async function lastWords(daemon: TestDaemon): Promise<string> {
  const lines = (await daemon.log()).split('\n').filter(isTelling);
  return `last lines of the daemon's log:\n${lines.slice(-LOG_TAIL_LINES).join('\n')}`;
}

/** Reads that went well tell nothing about a failure. */
function isTelling(line: string): boolean {
  return line !== '' && !/"(List\w+|\w+Status|Version|ImageFsInfo|RuntimeConfig) done"/.test(line);
}

/** Also after an interruption: it is printed and counted when it fails, whatever happened before. */
async function nothingIsLeft(
  before: Steps,
  daemon: TestDaemon,
  interrupted: AbortSignal,
  { leftovers }: StoryOptions,
): Promise<void> {
  // the steps of an interrupted run are over
  const steps = interrupted.aborted ? new Steps({ signal: new AbortController().signal, explain: () => '' }) : before;
  await steps.section('after the daemon', () =>
    steps.check('no process, netns, bridge or file of this run is left', async () => {
      deepStrictEqual(await processesOf(daemon), []);
      deepStrictEqual(await netnsOf(daemon), []);
      strictEqual(await exists(`/sys/class/net/${daemon.cni.bridge}`), false, `bridge ${daemon.cni.bridge}`);
      strictEqual(await exists(daemon.dir), false, daemon.dir);
      await leftovers?.(daemon);
    }),
  );
}
