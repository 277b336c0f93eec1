/**
 * Runs the Kubernetes project's critest against a real daemon: `npm run test:conformance`, or, after `bin/setup critest`,
 * `bin/node test/conformance/critest.ts [--focus REGEXP]... [--parallel N]`. A whole run writes docs/conformance.md.
 * The last line is `critest: P passed, F failed, S skipped`.
 */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../../src/lib/exec.ts';
import { exists, readFileIfExists, removeTree } from '../../src/lib/files.ts';
import { interruption } from '../support/story.ts';
import { conformancePage } from './critest/document.ts';
import { readReport, type Summary } from './critest/report.ts';
import { REPORT, runCritest } from './critest/run.ts';
import { startWorld } from './critest/world.ts';

const repository = resolve(import.meta.dirname, '../..');
const cache = join(repository, '.cache');
const binaries = join(cache, 'bin');
const outputDirectory = join(cache, 'critest');

const { values } = parseArgs({
  options: { focus: { type: 'string', multiple: true, default: [] }, parallel: { type: 'string', default: '1' } },
});
const interrupted = interruption();
process.exitCode = await main();

async function main(): Promise<number> {
  if (!(await exists(join(binaries, 'critest')))) {
    process.stderr.write('critest is missing; run bin/setup critest, or npm run test:conformance\n');
    return 1;
  }
  await removeTree(outputDirectory);
  await mkdir(outputDirectory, { recursive: true });
  {
    await using stack = new AsyncDisposableStack();
    print('starting a registry with the test images, and a daemon');
    const daemon = await startWorld(stack, { cache, binaries });
    const temporaryDirectory = join(daemon.dir, 'tmp');
    stack.defer(() => unmountBelow(temporaryDirectory));
    stack.defer(() => copyFile(join(daemon.dir, 'daemon.log'), join(outputDirectory, 'daemon.log')));
    print(`running critest; its whole output is in ${outputDirectory}/output.log`);
    await runCritest({
      binaries,
      socket: daemon.config.socket,
      outputDirectory,
      temporaryDirectory,
      focus: values.focus,
      parallel: Number(values.parallel),
      signal: interrupted,
      onSpec: print,
    });
  }
  if ((await readFileIfExists(join(outputDirectory, REPORT))) === undefined) {
    process.stderr.write('critest has left no report: it hung or could not start; see output.log\n');
    return 1;
  }
  return conclude(await readReport(join(outputDirectory, REPORT)));
}

async function conclude(summary: Summary): Promise<number> {
  const { specs, passed, failed, skipped, troubles } = summary;
  const of = (state: string) => specs.filter((spec) => spec.state === state);
  const avoidable = specs.filter((spec) => spec.avoidable);
  if (values.focus.length === 0 && troubles.length === 0 && !interrupted.aborted) {
    await writeFile(join(repository, 'docs/conformance.md'), conformancePage(await critestVersion(), summary));
  }
  for (const { name, reason } of of('skipped')) print(`skipped: ${name}: ${reason}`);
  for (const { name, reason } of of('failed')) print(`FAILED: ${name}: ${reason}`);
  for (const { name } of avoidable) print(`should not have been skipped: ${name}`);
  for (const trouble of troubles) print(`the run as a whole: ${trouble}`);
  print(`critest: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  const whole = passed > 0 && failed === 0 && avoidable.length === 0 && troubles.length === 0;
  return whole && !interrupted.aborted ? 0 : 1;
}

async function critestVersion(): Promise<string> {
  const { stdout } = await run(join(binaries, 'critest'), ['-version']);
  return /critest version: (\S+)/.exec(stdout)?.[1] ?? 'of an unknown version';
}

/** What a failed spec has mounted must be gone before its directory is deleted, or the deletion reaches through it. */
async function unmountBelow(directory: string): Promise<void> {
  const { stdout } = await run('findmnt', ['--raw', '--noheadings', '--output', 'TARGET']);
  const below = stdout.split('\n').filter((target) => target.startsWith(`${directory}/`));
  for (const target of below.toReversed()) await run('umount', ['--lazy', target]);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
