import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from './lab.ts';
import { endPod, startIdlePod, type RunningPod } from './operations.ts';
import { PEERS, type Peer, type PeerName } from './peer.ts';
import { memoryOf, type MemoryUse } from './memory.ts';
import { cpuTicks, residentMib } from './processes.ts';

export interface IdleOptions {
  readonly pods: number;
  /** `ms` over which processor time is counted */
  readonly windowMs: number;
}

/** What a pod costs that has one container, which sleeps. */
export interface PodCost {
  readonly memory: MemoryUse;
  /** of one core */
  readonly perPodCpuPercent: number;
}

export interface IdleResult {
  readonly pods: number;
  readonly costs: Readonly<Record<PeerName, PodCost>>;
  readonly daemonRssMib: number;
}

/** Pods that are started at once while filling up */
const BATCH = 2;
/** `ms` for what a start leaves to be done */
const QUIET_MS = 3000;

/** One peer after the other, so that neither shares memory or processor with the other's pods. */
export async function measureIdle(lab: Lab, options: IdleOptions, signal: AbortSignal): Promise<IdleResult> {
  const costs: Partial<Record<PeerName, PodCost>> = {};
  let daemonRssMib = 0;
  for (const name of PEERS) {
    const peer = lab[name];
    const before = await peer.podProcesses();
    const pods = await fill(peer, options.pods, signal);
    await peer.settled(signal);
    await sleep(QUIET_MS, undefined, { signal });
    const all = await peer.podProcesses();
    const processes = all.filter((pid) => !before.includes(pid));
    costs[name] = await cost(processes, options, signal);
    if (name === 'caisson') daemonRssMib = await residentMib(lab.daemon.pid);
    for (const { podId } of pods) await endPod(peer, podId, { signal });
  }
  const { caisson, containerd } = costs;
  if (!caisson || !containerd) throw new Error('a peer was not measured');
  return { pods: options.pods, costs: { caisson, containerd }, daemonRssMib };
}

async function fill(peer: Peer, count: number, signal: AbortSignal): Promise<RunningPod[]> {
  const pods: RunningPod[] = [];
  while (pods.length < count) {
    const batch = Array.from({ length: Math.min(BATCH, count - pods.length) }, () => startIdlePod(peer, signal));
    await Promise.allSettled(batch);
    pods.push(...(await Promise.all(batch)));
  }
  return pods;
}

async function cost(
  processes: readonly number[],
  { pods, windowMs }: IdleOptions,
  signal: AbortSignal,
): Promise<PodCost> {
  if (processes.length < pods) throw new Error(`${pods} pods have only ${processes.length} processes`);
  const [ticks, started] = [await cpuTicks(processes), performance.now()];
  await sleep(windowMs, undefined, { signal });
  const seconds = ((await cpuTicks(processes)) - ticks) / ticksPerSecond();
  const elapsed = (performance.now() - started) / 1000;
  const { totalMib, ramMib, translatedMib } = await memoryOf(processes);
  return {
    memory: { totalMib: totalMib / pods, ramMib: ramMib / pods, translatedMib: translatedMib / pods },
    perPodCpuPercent: (100 * seconds) / elapsed / pods,
  };
}

const ticksPerSecond = (): number => Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
