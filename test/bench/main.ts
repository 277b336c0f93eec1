/**
 * Caisson beside containerd with runc, on this machine: `npm run bench -- [--quick] [--streaming] [--pairs N] [--pods N]
 * [--mib N] [--json FILE]`.
 * Both are started for it and gone afterwards, as is everything they made, also after Ctrl-C.
 */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CaissonError } from '../../src/lib/errors.ts';
import type { Config } from '../../src/config/schema.ts';
import { measureBoot } from './boot.ts';
import { versionsOfContainerd } from './containerd.ts';
import { describeHost, loadNow, type Host } from './host.ts';
import { measureIdle, type IdleResult } from './idle.ts';
import { startLab, type Lab } from './lab.ts';
import { IDLE_MODE, modesOf, type Mode } from './modes.ts';
import { measurePairs } from './pairs.ts';
import { planOf, type Plan } from './plan.ts';
import { measureHostSide } from './streaming-host.ts';
import { interruption } from '../support/story.ts';
import { measureStreaming } from './streaming.ts';
import { streamLines, streamReport, type StreamResults } from './stream-report.ts';
import { makeReport, reportLines, type PairSet, type Results } from './report.ts';

const USAGE = 'usage: npm run bench -- [--quick] [--streaming] [--pairs N] [--pods N] [--mib N] [--json FILE]';

process.exitCode = await main(interruption());

async function main(signal: AbortSignal): Promise<number> {
  try {
    const { plan, json, streamingOnly } = readArguments();
    if (process.getuid?.() !== 0) throw new CaissonError('failed_precondition', 'the benchmark needs root');
    await versionsOfContainerd(); // a missing peer is found out before anything is started
    if (streamingOnly) return await streamsAlone(plan, json, signal);
    const report = makeReport(await measure(plan, signal));
    process.stdout.write(`${reportLines(report).join('\n')}\n`);
    if (json !== undefined) await writeFile(json, `${JSON.stringify(report, undefined, 2)}\n`);
    return report.booted_instead === 0 ? 0 : 1;
  } catch (error) {
    const words = error instanceof CaissonError ? error.message : error instanceof Error ? error.stack : String(error);
    say(signal.aborted ? 'interrupted' : (words ?? 'failed'));
    if (error instanceof CaissonError && error.hint !== undefined) say(`to fix it: ${error.hint}`);
    return 1;
  }
}

/** Without pods' lives, memory and boots. */
async function streamsAlone(plan: Plan, json: string | undefined, signal: AbortSignal): Promise<number> {
  const [mode] = modesOf(1);
  if (!mode) throw new Error('there is no mode');
  await using lab = await startLab(mode);
  const report = streamReport(await measureStreams(lab, plan, signal));
  process.stdout.write(`${streamLines(report).join('\n')}\n`);
  if (json !== undefined) await writeFile(json, `${JSON.stringify(report, undefined, 2)}\n`);
  return 0;
}

function readArguments(): {
  readonly plan: Plan;
  readonly json: string | undefined;
  readonly streamingOnly: boolean;
} {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        streaming: { type: 'boolean', default: false },
        pairs: { type: 'string' },
        pods: { type: 'string' },
        mib: { type: 'string' },
        json: { type: 'string' },
      },
    });
    const json = values.json === undefined ? undefined : resolve(values.json);
    return { plan: planOf(values.quick, values), json, streamingOnly: values.streaming };
  } catch (error) {
    throw new CaissonError('invalid_argument', error instanceof Error ? error.message : String(error), { hint: USAGE });
  }
}

interface Measured {
  host?: Host;
  idle?: IdleResult;
  vm?: Config['vm'];
  streams?: StreamResults;
  readonly pairs: PairSet[];
  bootedInstead: number;
}

async function measure(plan: Plan, signal: AbortSignal): Promise<Results> {
  const load = loadNow();
  const measured: Measured = { pairs: [], bootedInstead: 0 };
  for (const mode of modesOf(plan.parallel.pods)) {
    say(`starting caisson and containerd (pods start by ${mode.name})`);
    await using lab = await startLab(mode);
    measured.vm = lab.daemon.config.vm;
    measured.host ??= await describeHost(lab.daemon, load);
    measured.pairs.push(...(await measureMode(lab, mode, plan, signal)));
    if (mode.name === IDLE_MODE) {
      say(`${plan.idle.pods} idle pods of each, watched for ${plan.idle.windowMs / 1000} s`);
      measured.idle = await measureIdle(lab, plan.idle, signal);
      measured.streams = await measureStreams(lab, plan, signal);
    }
    measured.bootedInstead += await bootedInstead(lab);
  }
  const { host, idle, vm, streams, pairs, bootedInstead: booted } = measured;
  if (!host || !idle || !vm || !streams) throw new Error('no mode was measured');
  say(`VMs alone: ${plan.boot.cold} by booting, ${plan.boot.clones} by cloning`);
  return { host, pairs, idle, streams, bootedInstead: booted, boot: await measureBoot(vm, plan.boot, signal) };
}

/** One peer after the other; the server's own share of it, too. */
async function measureStreams(
  { caisson, containerd }: Lab,
  { streams }: Plan,
  signal: AbortSignal,
): Promise<StreamResults> {
  say(`streams: ${streams.mib} MiB each way, ${streams.keys} keys, ${streams.execs} execs at once`);
  return {
    plan: streams,
    caisson: await measureStreaming(caisson, streams, signal),
    containerd: await measureStreaming(containerd, streams, signal),
    hostSide: await measureHostSide({ mib: streams.mib, rounds: 3 }, signal),
  };
}

/** A pod boots when its clone fails: medians may hide it. */
async function bootedInstead({ daemon }: Lab): Promise<number> {
  const fallbacks = (await daemon.log()).split('\n').filter((line) => line.includes('booting instead'));
  for (const line of fallbacks) say(line);
  return fallbacks.length;
}

async function measureMode(lab: Lab, mode: Mode, plan: Plan, signal: AbortSignal): Promise<PairSet[]> {
  const sizes = [{ ...plan.serial, pods: 1 }, ...(mode.parallel ? [plan.parallel] : [])];
  const sets: PairSet[] = [];
  for (const size of sizes) {
    say(`${mode.name}: ${size.warmUps} + ${size.pairs} pairs of ${size.pods} at once`);
    const samples = await measurePairs(lab, size, signal);
    sets.push({ mode: mode.name, pods: size.pods, operations: mode.operations, samples });
  }
  return sets;
}

/** For people who wait; the table alone goes to standard output. */
function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
