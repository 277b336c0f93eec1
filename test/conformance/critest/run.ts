import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Progress } from './progress.ts';
import { skips } from './skips.ts';

export interface CritestOptions {
  /** with critest and ginkgo */
  readonly binaries: string;
  readonly socket: string;
  /** gets output.log and report.json */
  readonly outputDirectory: string;
  /** where the specs make their files */
  readonly temporaryDirectory: string;
  readonly focus: readonly string[];
  readonly parallel: number;
  readonly signal: AbortSignal;
  /** hears of each spec that has ended */
  readonly onSpec: (line: string) => void;
}

export const REPORT = 'report.json';
const TOTAL_TIMEOUT = '60m';
/** of one RPC; without KVM a pod takes seconds */
const RPC_TIMEOUT = '120s';
/** a spec that says nothing for this long hangs */
const SILENCE_MS = 6 * 60_000;
/** ginkgo's time to clean up and write its report when it is told to end */
const END_GRACE_MS = 90_000;

/** Runs critest to its end; one that hangs is ended, and its report then says what did not finish. */
export async function runCritest(options: CritestOptions): Promise<void> {
  const log = createWriteStream(join(options.outputDirectory, 'output.log'));
  const child = spawn(join(options.binaries, 'critest'), critestArguments(options), {
    stdio: ['ignore', 'pipe', 'pipe'],
    // with several processes critest leaves its place to ginkgo, and a signal to critest alone would not reach that
    detached: true,
    env: { ...process.env, PATH: `${options.binaries}:${process.env['PATH']}`, TMPDIR: options.temporaryDirectory },
  });
  const closed = once(child, 'close');
  const end = (): void => {
    signalGroup(child, 'SIGINT');
    setTimeout(() => signalGroup(child, 'SIGKILL'), END_GRACE_MS).unref();
  };
  const guard = setTimeout(end, SILENCE_MS);
  options.signal.addEventListener('abort', end, { once: true });
  try {
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    const progress = new Progress(options.onSpec);
    for await (const line of createInterface({ input: child.stdout })) {
      guard.refresh();
      progress.read(line);
    }
    await closed;
  } finally {
    clearTimeout(guard);
    options.signal.removeEventListener('abort', end);
    log.end();
  }
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // all of it has ended
  }
}

function critestArguments({ socket, outputDirectory, focus, parallel }: CritestOptions): string[] {
  return [
    `-runtime-endpoint=unix://${socket}`,
    `-image-endpoint=unix://${socket}`,
    `-runtime-service-timeout=${RPC_TIMEOUT}`,
    `-image-service-timeout=${RPC_TIMEOUT}`,
    '-ginkgo.no-color',
    '-ginkgo.v',
    `-ginkgo.timeout=${TOTAL_TIMEOUT}`,
    `-ginkgo.json-report=${join(outputDirectory, REPORT)}`,
    `-ginkgo.skip=${skips.map(({ pattern }) => pattern).join('|')}`,
    ...focus.map((pattern) => `-ginkgo.focus=${pattern}`),
    ...(parallel > 1 ? [`-parallel=${parallel}`] : []),
  ];
}
