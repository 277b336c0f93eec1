/**
 * Runs suites of tests: `bin/node test/run.ts unit integration [--only pattern]`. The pattern chooses files by their
 * name; when it is in no file's name, it chooses tests by theirs. The last line sums up all suites.
 */
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import type { EventData } from 'node:test';
import { parseArgs } from 'node:util';

interface Limits {
  /** test files at once */
  readonly concurrency: number;
  /** `ms` a file may take */
  readonly timeout: number;
}

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const MINUTE = 60_000;
/** Each integration test file starts VMs, which without KVM keep a processor busy each. */
const INTEGRATION: Limits = { concurrency: 2, timeout: 20 * MINUTE };
const LIMITS: Readonly<Record<string, Limits>> = {
  unit: { concurrency: availableParallelism(), timeout: 5 * MINUTE },
};

const { values, positionals: suites } = parseArgs({ allowPositionals: true, options: { only: { type: 'string' } } });
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
process.exitCode = await main();

async function main(): Promise<number> {
  const plan = suites.map((suite) => ({ suite, files: filesOf(suite) }));
  const empty = plan.filter(({ files }) => files.length === 0).map(({ suite }) => suite);
  if (suites.length === 0) return usage('name at least one suite, such as unit or integration');
  if (empty.length > 0) return usage(`no test files in test/${empty.join(', test/')}`);

  const byFile = plan.map(({ suite, files }) => ({ suite, files: files.filter((file) => isChosen(suite, file)) }));
  const someFile = byFile.some(({ files }) => files.length > 0);
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const { suite, files } of someFile ? byFile : plan) {
    if (files.length > 0 && !interrupted.signal.aborted) await runSuite(suite, files, totals, !someFile);
  }
  process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`);
  const nothing = totals.passed + totals.failed + totals.skipped === 0;
  return totals.failed > 0 || nothing || interrupted.signal.aborted ? 1 : 0;
}

function filesOf(suite: string): string[] {
  return globSync(join(import.meta.dirname, suite, '**/*.test.ts')).toSorted();
}

function isChosen(suite: string, file: string): boolean {
  const name = relative(join(import.meta.dirname, suite), file);
  return values.only === undefined || name.includes(values.only);
}

async function runSuite(suite: string, files: string[], totals: Totals, byTestName: boolean): Promise<void> {
  process.stdout.write(`suite ${suite}: ${files.length} files\n`);
  const events = run({
    files,
    ...(LIMITS[suite] ?? INTEGRATION),
    signal: interrupted.signal,
    execArgv: process.execArgv,
    ...(byTestName && values.only !== undefined && { testNamePatterns: values.only }),
  });
  events.on('test:summary', (summary: EventData.TestSummary) => {
    if (summary.file !== undefined) return;
    const { tests, passed, skipped, todo } = summary.counts;
    const failed = tests - passed - skipped - todo;
    totals.passed += passed;
    totals.skipped += skipped + todo;
    // a failing hook of a suite is no failed test, and a failure all the same
    totals.failed += failed === 0 && !summary.success ? 1 : failed;
  });
  for await (const text of events.compose(new spec())) process.stdout.write(String(text));
}

function usage(problem: string): number {
  process.stderr.write(`test/run.ts: ${problem}\nusage: bin/node test/run.ts <suite>... [--only pattern]\n`);
  return 2;
}
