import type { Config } from '../config/schema.ts';
import type { PodNetwork } from '../network/contracts.ts';
import type { VmRecord } from '../vm/contracts.ts';
import type { ContainerState, ContainerView, NamespaceOption, SandboxView, TimestampNs } from './contracts.ts';

/**
 * A pod sandbox as it is kept in the store.
 *
 *   creating ──run──▶ ready ──stop, or the VM ends──▶ notready ──remove──▶ (gone)
 *      │                                                  ▲
 *      ├── the start fails and is undone ──▶ (gone)       │
 *      └── the start fails and cannot be undone ──────────┘
 *
 * `creating` is never listed; the daemon's next start undoes it.
 */
export interface SandboxRecord {
  readonly version: 1;
  readonly state: 'creating' | 'ready' | 'notready';
  readonly reason: string;
  readonly metadata: SandboxView['metadata'];
  readonly createdAt: TimestampNs;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly runtimeHandler: string;
  readonly logDirectory: string;
  readonly namespaceOptions: NamespaceOption | null;
  readonly cid: number;
  readonly uid: number;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly vm: VmRecord | null;
  readonly network: PodNetwork | null;
  /** what stop must still undo; false once it has */
  readonly hasResources: boolean;
}

/**
 * A container as it is kept in the store.
 *
 *   creating ──create──▶ created ──start──▶ running ──exit──▶ exited
 *                           └──── start fails, sandbox stops ────┘
 *
 * `creating` is never listed; `unknown` is a running one whose VM a restarted daemon could not ask.
 */
export interface ContainerRecord {
  readonly version: 1;
  readonly sandboxId: string;
  readonly state: 'creating' | ContainerState;
  readonly metadata: ContainerView['metadata'];
  readonly createdAt: TimestampNs;
  readonly startedAt: TimestampNs;
  readonly finishedAt: TimestampNs;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly image: string;
  readonly imageId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly mounts: ContainerView['mounts'];
  readonly logPath: string;
  readonly resources: ContainerView['resources'];
  readonly user: ContainerView['user'];
  readonly stopSignal: string;
  /** number of the signal that asks it to stop */
  readonly stopSignalNumber: number;
}

export type VmDefaults = Pick<Config['vm'], 'vcpus' | 'memory_mib' | 'uid_base'>;

export function nowNs(): TimestampNs {
  return `${BigInt(Date.now()) * 1_000_000n}`;
}

export function sandboxView(id: string, record: SandboxRecord): SandboxView {
  const { state, network, vm } = record;
  return {
    id,
    metadata: record.metadata,
    state: state === 'ready' ? 'ready' : 'notready',
    reason: record.reason,
    createdAt: record.createdAt,
    labels: record.labels,
    annotations: record.annotations,
    runtimeHandler: record.runtimeHandler,
    ips: state === 'ready' ? (network?.ips ?? []) : [],
    namespaceOptions: record.namespaceOptions,
    info: { vm, network, vcpus: record.vcpus, memoryMib: record.memoryMib, cid: record.cid, uid: record.uid },
  };
}

export function containerView(id: string, record: ContainerRecord): ContainerView {
  const { version: _version, stopSignalNumber: _number, state, ...rest } = record;
  return {
    id,
    ...rest,
    state: state === 'creating' ? 'unknown' : state,
    info: { sandboxID: record.sandboxId, pid: 0 },
  };
}
