/** What the edges are told about the use of resources. Samples are taken by the daemon's clock. */
import type { AgentContainerStats, AgentStats, CgroupStats } from '../../agent/contracts.ts';
import type { InterfaceCounters } from '../../network/contracts.ts';
import type { ContainerFilter, ContainerView, SandboxFilter, SandboxView, TimestampNs } from '../contracts.ts';

export type { CgroupStats, DeviceIo, Pressure, PressureLine } from '../../agent/contracts.ts';
export type { InterfaceCounters } from '../../network/contracts.ts';

export interface CgroupSample {
  readonly timestamp: TimestampNs;
  readonly cgroup: CgroupStats;
  /** processor time used between the last two samples, in billionths of a processor; null after the first */
  readonly nanoCores: number | null;
}

export interface ContainerSample extends CgroupSample {
  readonly written: AgentContainerStats['written'];
  readonly details: AgentContainerStats['details'];
}

export interface ContainerStatsView {
  readonly container: ContainerView;
  /** null while it does not run, and before the first sample */
  readonly sample: ContainerSample | null;
  /** directory on the node that holds the disks which containers write to */
  readonly writableDirectory: string;
}

export interface SandboxStatsView {
  readonly sandbox: SandboxView;
  /** all containers together; null while the VM has not answered yet */
  readonly sample: CgroupSample | null;
  /** counted by the node, not by the guest */
  readonly network: { readonly timestamp: TimestampNs; readonly counters: InterfaceCounters } | null;
  /** the disk that the containers write to */
  readonly scratch: AgentStats['scratch'];
  /** those that run */
  readonly containers: readonly ContainerStatsView[];
}

/** Ids may be unambiguous prefixes; `not_found`. Lists answer from memory, with the last samples. */
export interface StatsService {
  /** Waits for a new sample, 2 s at most, or 30 s when there is none yet; else has the last one. */
  container(id: string, signal: AbortSignal): Promise<ContainerStatsView>;
  /** Of those that run. */
  containers(filter: ContainerFilter): ContainerStatsView[];
  sandbox(id: string, signal: AbortSignal): Promise<SandboxStatsView>;
  /** Of those that are ready. */
  sandboxes(filter: SandboxFilter): SandboxStatsView[];
  /** As `sandboxes`, for somebody who also wants to know about descriptors and sockets from now on. */
  detailed(): SandboxStatsView[];
}
