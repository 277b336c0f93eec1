/** Statistics as CRI messages. Numbers of nanoseconds outgrow what a number holds, so they go as decimal strings. */
import type { ContainerStats } from '../../../proto/generated/runtime/runtime/v1/ContainerStats.ts';
import type { CpuUsage } from '../../../proto/generated/runtime/runtime/v1/CpuUsage.ts';
import type { MemoryUsage } from '../../../proto/generated/runtime/runtime/v1/MemoryUsage.ts';
import type { NetworkUsage } from '../../../proto/generated/runtime/runtime/v1/NetworkUsage.ts';
import type { PodSandboxStats } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStats.ts';
import type { PsiStats } from '../../../proto/generated/runtime/runtime/v1/PsiStats.ts';
import type {
  CgroupSample,
  CgroupStats,
  ContainerStatsView,
  Pressure,
  PressureLine,
  SandboxStatsView,
} from '../../pod/contracts.ts';

const value = (number: number | string) => ({ value: number });

export function toContainerStats({ container, sample, writableDirectory }: ContainerStatsView): ContainerStats {
  const { id, metadata, labels, annotations } = container;
  const attributes = { id, metadata, labels: { ...labels }, annotations: { ...annotations } };
  if (!sample) return { attributes };
  const { timestamp, cgroup, written } = sample;
  return {
    attributes,
    cpu: cpuUsage(sample),
    memory: memoryUsage(sample, limitOf(container.resources?.memory_limit_in_bytes)),
    writable_layer: written && {
      timestamp,
      fs_id: { mountpoint: writableDirectory },
      used_bytes: value(written.usedBytes),
      inodes_used: value(written.inodes),
    },
    // guests have no swap space
    swap: { timestamp, swap_available_bytes: value(0), swap_usage_bytes: value(cgroup.memory.swapBytes) },
    io: { timestamp, psi: psi(cgroup.pressure.io) },
  };
}

export function toPodSandboxStats({ sandbox, sample, network, containers }: SandboxStatsView): PodSandboxStats {
  const { id, metadata, labels, annotations } = sandbox;
  return {
    attributes: { id, metadata, labels: { ...labels }, annotations: { ...annotations } },
    linux: {
      ...(sample && {
        cpu: cpuUsage(sample),
        memory: memoryUsage(sample, null),
        process: { timestamp: sample.timestamp, process_count: value(sample.cgroup.processes) },
        io: { timestamp: sample.timestamp, psi: psi(sample.cgroup.pressure.io) },
      }),
      network: networkUsage(network),
      containers: containers.map(toContainerStats),
    },
  };
}

function cpuUsage({ timestamp, cgroup, nanoCores }: CgroupSample): CpuUsage {
  return {
    timestamp,
    usage_core_nano_seconds: value(nanoseconds(cgroup.cpu.usageUs)),
    usage_nano_cores: nanoCores === null ? null : value(nanoCores),
    psi: psi(cgroup.pressure.cpu),
  };
}

function memoryUsage({ timestamp, cgroup }: CgroupSample, limitBytes: number | null): MemoryUsage {
  const { memory, pressure } = cgroup;
  const workingSet = workingSetBytes(cgroup);
  return {
    timestamp,
    working_set_bytes: value(workingSet),
    available_bytes: limitBytes === null ? null : value(Math.max(0, limitBytes - workingSet)),
    usage_bytes: value(memory.currentBytes),
    rss_bytes: value(memory.anonBytes),
    page_faults: value(memory.pageFaults),
    major_page_faults: value(memory.majorPageFaults),
    psi: psi(pressure.memory),
  };
}

/** What cannot be reclaimed without a thought; the kubelet evicts by it. */
export function workingSetBytes({ memory }: CgroupStats): number {
  return Math.max(0, memory.currentBytes - memory.inactiveFileBytes);
}

/** Null when there is none. */
export function limitOf(text: string | undefined): number | null {
  const bytes = Number(text ?? 0);
  return bytes > 0 ? bytes : null;
}

function networkUsage(network: SandboxStatsView['network']): NetworkUsage | null {
  if (!network) return null;
  const { name, received, sent } = network.counters;
  const default_interface = {
    name,
    rx_bytes: value(received.bytes),
    rx_errors: value(received.errors),
    tx_bytes: value(sent.bytes),
    tx_errors: value(sent.errors),
  };
  return { timestamp: network.timestamp, default_interface, interfaces: [default_interface] };
}

function psi(pressure: Pressure | null): PsiStats | null {
  return pressure && { Some: psiData(pressure.some), Full: psiData(pressure.full) };
}

/** `Total` in nanoseconds, as the kubelet has it from cAdvisor. */
function psiData(line: PressureLine) {
  return { Total: nanoseconds(line.totalUs), Avg10: line.avg10, Avg60: line.avg60, Avg300: line.avg300 };
}

function nanoseconds(microseconds: number): string {
  return `${BigInt(microseconds) * 1000n}`;
}
