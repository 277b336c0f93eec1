import type { AgentClient } from '../agent/contracts.ts';
import type { Config } from '../config/schema.ts';
import type { ImagePort } from '../image/contracts.ts';
import { KeyedMutex } from '../lib/async.ts';
import type { Logger } from '../lib/logger.ts';
import type { InterfaceCounters, NetworkPort } from '../network/contracts.ts';
import type { StoragePort, VolumePort, VolumeShare } from '../storage/contracts.ts';
import type { CgroupPort, Vm, VmPort } from '../vm/contracts.ts';
import { EventBus } from './events.ts';
import type { ContainerLog } from './log-writer.ts';
import type { ContainerRecord, SandboxRecord, SpareRecord } from './records.ts';
import type { Registry } from './registry.ts';
import { Sampler, type SandboxSamples } from './stats/sampler.ts';

/** What lives while a sandbox is ready: none of it is in the store. */
export interface LiveSandbox {
  readonly vm: Vm;
  readonly agent: AgentClient;
  readonly samples: SandboxSamples;
  /** what the node counts of its traffic; undefined when its interface is gone */
  readonly counters: () => Promise<InterfaceCounters | undefined>;
  /** set by stop, so that the VM's end is no surprise */
  stopping: boolean;
  /** while the VM's processors stand still, so that nothing can be asked of the guest; resolves when that is over */
  standstill: PromiseWithResolvers<void> | undefined;
  /** by an earlier daemon: its containers are to be asked for when it goes on */
  unknown: boolean;
  /** once a container has had volumes, or while that is being prepared */
  share: Promise<VolumeShare> | undefined;
}

export interface LiveContainer {
  readonly log: ContainerLog | undefined;
  /** resolves when the exit is in the store */
  readonly ended: Promise<void>;
}

/** Everything the pod operations work with. */
export interface PodContext {
  readonly config: Config;
  readonly log: Logger;
  readonly images: ImagePort;
  readonly network: NetworkPort;
  readonly storage: StoragePort;
  readonly volumes: VolumePort;
  readonly vms: VmPort;
  readonly cgroups: CgroupPort;
  readonly connectAgent: (socketPath: string) => AgentClient;
  readonly sandboxes: Registry<SandboxRecord>;
  readonly containers: Registry<ContainerRecord>;
  readonly spares: Registry<SpareRecord>;
  readonly liveSandboxes: Map<string, LiveSandbox>;
  readonly liveContainers: Map<string, LiveContainer>;
  /** keeps an image's layers on disk as long as a container of it exists */
  readonly imageHolds: Map<string, Disposable>;
  /** start, stop and remove of one sandbox or container one after the other */
  readonly locks: KeyedMutex;
  readonly sampler: Sampler;
  readonly events: EventBus;
  /** the daemon ends: what is lost sight of goes on for the next one */
  closing: boolean;
}

export function makeContext(
  parts: Omit<
    PodContext,
    'liveSandboxes' | 'liveContainers' | 'imageHolds' | 'locks' | 'sampler' | 'events' | 'closing'
  >,
): PodContext {
  const liveSandboxes = new Map<string, LiveSandbox>();
  return {
    ...parts,
    liveSandboxes,
    liveContainers: new Map(),
    imageHolds: new Map(),
    locks: new KeyedMutex(),
    events: new EventBus(),
    sampler: new Sampler(() => liveSandboxes.values(), parts.log),
    closing: false,
  };
}
