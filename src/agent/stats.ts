import type { CgroupStats__Output } from '../../proto/generated/agent/caisson/agent/v1/CgroupStats.ts';
import type { ContainerStats__Output } from '../../proto/generated/agent/caisson/agent/v1/ContainerStats.ts';
import type { GetStatsResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/GetStatsResponse.ts';
import type { Pressure__Output } from '../../proto/generated/agent/caisson/agent/v1/Pressure.ts';
import type { PressureLine__Output } from '../../proto/generated/agent/caisson/agent/v1/PressureLine.ts';
import type { AgentContainerStats, AgentStats, CgroupStats, Pressure, PressureLine } from './contracts.ts';

const MAX_CONTAINERS = 4096;
const MAX_DEVICES = 512;
const MAX_PAGE_SIZES = 16;
/** the kernel writes page sizes so; anything else would become a label of a metric */
const PAGE_SIZE = /^\d{1,6}[KMG]B$/;

/** The agent's numbers, made whole, finite and not negative: the guest may send anything. */
export function statsOf(message: GetStatsResponse__Output): AgentStats {
  const containers = message.containers
    .slice(0, MAX_CONTAINERS)
    .map((stats) => [stats.id, containerStats(stats)] as const);
  const { scratch } = message;
  return {
    containers: new Map(containers),
    pod: cgroupStats(message.pod),
    scratch: scratch && {
      totalBytes: count(scratch.total_bytes),
      freeBytes: count(scratch.free_bytes),
      inodes: count(scratch.inodes),
      freeInodes: count(scratch.free_inodes),
    },
  };
}

function containerStats({ cgroup, written, details }: ContainerStats__Output): AgentContainerStats {
  return {
    cgroup: cgroupStats(cgroup),
    written: written && { usedBytes: count(written.used_bytes), inodes: count(written.inodes) },
    details: details && {
      fileDescriptors: count(details.file_descriptors),
      sockets: count(details.sockets),
      maxOpenFiles: count(details.max_open_files),
    },
  };
}

function cgroupStats(message: CgroupStats__Output | null): CgroupStats {
  return {
    cpu: {
      usageUs: count(message?.cpu_usage_us),
      userUs: count(message?.cpu_user_us),
      systemUs: count(message?.cpu_system_us),
      periods: count(message?.cfs_periods),
      throttledPeriods: count(message?.cfs_throttled_periods),
      throttledUs: count(message?.cfs_throttled_us),
    },
    memory: {
      currentBytes: count(message?.memory_current_bytes),
      peakBytes: count(message?.memory_peak_bytes),
      anonBytes: count(message?.memory_anon_bytes),
      fileBytes: count(message?.memory_file_bytes),
      inactiveFileBytes: count(message?.memory_inactive_file_bytes),
      mappedFileBytes: count(message?.memory_mapped_file_bytes),
      kernelBytes: count(message?.memory_kernel_bytes),
      swapBytes: count(message?.memory_swap_bytes),
      pageFaults: count(message?.page_faults),
      majorPageFaults: count(message?.major_page_faults),
      limitHits: count(message?.memory_limit_hits),
      oomKills: count(message?.oom_kills),
    },
    processes: count(message?.processes),
    tasks: count(message?.tasks),
    tasksMax: count(message?.tasks_max),
    pressure: {
      cpu: pressure(message?.cpu_pressure),
      memory: pressure(message?.memory_pressure),
      io: pressure(message?.io_pressure),
    },
    io: (message?.io ?? []).slice(0, MAX_DEVICES).map((device) => ({
      major: device.major,
      minor: device.minor,
      readBytes: count(device.read_bytes),
      writtenBytes: count(device.written_bytes),
      reads: count(device.reads),
      writes: count(device.writes),
    })),
    hugepages: (message?.hugepages ?? [])
      .filter(({ page_size }) => PAGE_SIZE.test(page_size))
      .slice(0, MAX_PAGE_SIZES)
      .map(({ page_size, current_bytes, peak_bytes }) => ({
        pageSize: page_size,
        currentBytes: count(current_bytes),
        peakBytes: count(peak_bytes),
      })),
  };
}

function pressure(message: Pressure__Output | null | undefined): Pressure | null {
  return message ? { some: pressureLine(message.some), full: pressureLine(message.full) } : null;
}

function pressureLine(line: PressureLine__Output | null): PressureLine {
  const average = (value: number | string | undefined): number => {
    const percent = Number(value ?? 0);
    return percent >= 0 && percent <= 100 ? percent : 0;
  };
  return {
    totalUs: count(line?.total_us),
    avg10: average(line?.avg10),
    avg60: average(line?.avg60),
    avg300: average(line?.avg300),
  };
}

/** Of a decimal uint64, at most what a number holds exactly. */
function count(text: string | undefined): number {
  return Math.min(Number(text ?? 0), Number.MAX_SAFE_INTEGER);
}
