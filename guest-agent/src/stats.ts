import { cgroupCounters, cgroupNumber } from './cgroup.ts';
import { containerPaths } from './paths.ts';

export interface ContainerStats {
  readonly cpuUsageUs: number;
  readonly memoryCurrentBytes: number;
  readonly memoryWorkingSetBytes: number;
  readonly pids: number;
  readonly oomKills: number;
}

/** Reads the container's cgroup; zeros for one that has not started or is gone. */
export async function readStats(id: string): Promise<ContainerStats> {
  const { cgroup } = containerPaths(id);
  const [cpu, memory, events, current, pids] = await Promise.all([
    cgroupCounters(cgroup, 'cpu.stat'),
    cgroupCounters(cgroup, 'memory.stat'),
    cgroupCounters(cgroup, 'memory.events'),
    cgroupNumber(cgroup, 'memory.current'),
    cgroupNumber(cgroup, 'pids.current'),
  ]);
  return {
    cpuUsageUs: cpu.get('usage_usec') ?? 0,
    memoryCurrentBytes: current,
    memoryWorkingSetBytes: Math.max(0, current - (memory.get('inactive_file') ?? 0)),
    pids,
    oomKills: events.get('oom_kill') ?? 0,
  };
}
