import type { CgroupStats } from '../../agent/contracts.ts';
import type { ContainerView, SandboxView } from '../contracts.ts';
import type { CgroupSample, ContainerSample, ContainerStatsView, SandboxStatsView } from './contracts.ts';
import type { Sample, SandboxSamples } from './sampler.ts';

type Samples = Pick<SandboxSamples, 'latest' | 'previous' | 'network'>;

export function containerStats(
  container: ContainerView,
  samples: Samples | undefined,
  writableDirectory: string,
): ContainerStatsView {
  const sample = container.state === 'running' && samples ? containerSample(container.id, samples) : null;
  return { container, sample, writableDirectory };
}

export function sandboxStats(
  sandbox: SandboxView,
  containers: readonly ContainerStatsView[],
  samples: Samples | undefined,
): SandboxStatsView {
  const { latest, previous, network } = samples ?? {};
  return {
    sandbox,
    sample: latest ? cgroupSample(latest, latest.stats.pod, previous, previous?.stats.pod) : null,
    network: network ?? null,
    scratch: latest?.stats.scratch ?? null,
    containers,
  };
}

function containerSample(id: string, { latest, previous }: Samples): ContainerSample | null {
  const now = latest?.stats.containers.get(id);
  if (!latest || !now) return null;
  const before = previous?.stats.containers.get(id)?.cgroup;
  return { ...cgroupSample(latest, now.cgroup, previous, before), written: now.written, details: now.details };
}

function cgroupSample(
  latest: Sample,
  cgroup: CgroupStats,
  previous: Sample | undefined,
  before: CgroupStats | undefined,
): CgroupSample {
  const elapsedMs = previous && before ? latest.clockMs - previous.clockMs : 0;
  const usedUs = before ? Math.max(0, cgroup.cpu.usageUs - before.cpu.usageUs) : 0;
  // microseconds of work a millisecond are thousandths of a processor, so a million billionths
  const nanoCores = elapsedMs > 0 ? Math.round((usedUs / elapsedMs) * 1_000_000) : null;
  return { timestamp: latest.timestamp, cgroup, nanoCores };
}
