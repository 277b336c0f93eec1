import { readdirSync, readFileSync } from 'node:fs';
import type { CgroupStats } from '../../../proto/generated/agent/caisson/agent/v1/CgroupStats.ts';
import type { DeviceIo } from '../../../proto/generated/agent/caisson/agent/v1/DeviceIo.ts';
import type { HugePageUsage } from '../../../proto/generated/agent/caisson/agent/v1/HugePageUsage.ts';
import type { Pressure } from '../../../proto/generated/agent/caisson/agent/v1/Pressure.ts';

/**
 * What the kernel counts for a cgroup and all below it. Files that are missing count as zero: a cgroup that is gone, or
 * a kernel without that controller. Reading never waits for the processes in it.
 */
export function readCgroup(path: string): CgroupStats {
  const cpu = keyValues(path, 'cpu.stat');
  const memory = keyValues(path, 'memory.stat');
  const events = keyValues(path, 'memory.events');
  const one = (file: string): number => number(read(path, file));
  return {
    cpu_usage_us: cpu('usage_usec'),
    cpu_user_us: cpu('user_usec'),
    cpu_system_us: cpu('system_usec'),
    cfs_periods: cpu('nr_periods'),
    cfs_throttled_periods: cpu('nr_throttled'),
    cfs_throttled_us: cpu('throttled_usec'),
    memory_current_bytes: one('memory.current'),
    memory_peak_bytes: one('memory.peak'),
    memory_anon_bytes: memory('anon'),
    memory_file_bytes: memory('file'),
    memory_inactive_file_bytes: memory('inactive_file'),
    memory_mapped_file_bytes: memory('file_mapped'),
    memory_kernel_bytes: memory('kernel'),
    memory_swap_bytes: one('memory.swap.current'),
    page_faults: memory('pgfault'),
    major_page_faults: memory('pgmajfault'),
    memory_limit_hits: events('max'),
    oom_kills: events('oom_kill'),
    tasks: one('pids.current'),
    tasks_max: one('pids.max'), // "max" is no number, so it becomes 0
    cpu_pressure: pressure(read(path, 'cpu.pressure')),
    memory_pressure: pressure(read(path, 'memory.pressure')),
    io_pressure: pressure(read(path, 'io.pressure')),
    io: deviceIo(read(path, 'io.stat')),
    hugepages: hugePages(path),
  };
}

function read(directory: string, file: string): string {
  try {
    return readFileSync(`${directory}/${file}`, 'utf8');
  } catch {
    // gone, or a controller that this kernel lacks: the same to whoever asks
    return '';
  }
}

function number(text: string): number {
  const value = Number(text);
  return Number.isFinite(value) ? value : 0;
}

/** A file of `key value` lines; 0 for keys that are not in it. */
function keyValues(directory: string, file: string): (key: string) => number {
  const lines = read(directory, file).split('\n');
  const values = new Map(lines.map((line) => line.split(' ') as [string, string]));
  return (key) => number(values.get(key) ?? '0');
}

/** `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same for `full`; null when there is nothing to read. */
export function pressure(text: string): Pressure | null {
  const line = (kind: string) => {
    const [, avg10, avg60, avg300, total] =
      new RegExp(`^${kind} avg10=(\\S+) avg60=(\\S+) avg300=(\\S+) total=(\\d+)`, 'm').exec(text) ?? [];
    if (total === undefined) return null;
    return { total_us: total, avg10: Number(avg10), avg60: Number(avg60), avg300: Number(avg300) };
  };
  return text === '' ? null : { some: line('some'), full: line('full') };
}

/** `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`; a device without counts has only its numbers. */
export function deviceIo(text: string): DeviceIo[] {
  return text.split('\n').flatMap((line) => {
    const [, major, minor] = /^(\d+):(\d+) /.exec(line) ?? [];
    if (major === undefined) return [];
    const count = (key: string): number => number(new RegExp(` ${key}=(\\d+)`).exec(line)?.[1] ?? '0');
    return [
      {
        major: Number(major),
        minor: Number(minor),
        read_bytes: count('rbytes'),
        written_bytes: count('wbytes'),
        reads: count('rios'),
        writes: count('wios'),
      },
    ];
  });
}

/** Most that was seen in use, by the cgroup's file. */
const peaks = new Map<string, number>();

function hugePages(path: string): HugePageUsage[] {
  return list(path).flatMap((file) => {
    const [, page_size] = /^hugetlb\.(\w+)\.current$/.exec(file) ?? [];
    if (page_size === undefined) return [];
    const current = number(read(path, file));
    const peak = Math.max(current, peaks.get(`${path}/${file}`) ?? 0);
    if (peak > 0) peaks.set(`${path}/${file}`, peak);
    return [{ page_size, current_bytes: current, peak_bytes: peak }];
  });
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // gone
  }
}
