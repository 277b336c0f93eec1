import type { PodNetwork } from '../network/contracts.ts';
import type { VmRecord, VmSize } from '../vm/contracts.ts';
import type { ValidSandboxConfig } from './validate.ts';
import type { ContainerState, ContainerView, LinuxContainerResources, SandboxView, TimestampNs } from './contracts.ts';

/**
 * A pod sandbox as it is kept in the store.
 *
 *   creating ──run──▶ ready ──stop, or the VM ends──▶ notready ──remove──▶ (gone)
 *      │                ▲                                 │ ▲ ▲
 *      │                └───── starting ◀──── start ──────┘ │ │
 *      │                          └── fails, or the daemon ends
 *      ├── the start fails and is undone ──▶ (gone)         │
 *      └── the start fails and cannot be undone ────────────┘
 *
 * `creating` is never listed; the daemon's next start undoes it. `starting` is notready to the world. While `ready`, the
 * VM may be `paused`; that is no state of CRI's.
 */
export interface SandboxRecord extends Omit<SandboxView, 'id' | 'state' | 'ips' | 'info'> {
  readonly version: 1;
  readonly state: 'creating' | 'ready' | 'notready' | 'starting';
  /** as it was asked for; records of earlier versions have none */
  readonly config?: ValidSandboxConfig;
  /** its VM's processors stand still */
  readonly paused?: boolean;
  readonly logDirectory: string;
  readonly cid: number;
  readonly uid: number;
  /** what the pod as a whole asks */
  readonly resources: LinuxContainerResources | null;
  /** of its RuntimeClass */
  readonly overhead: LinuxContainerResources | null;
  /** of its VM, now */
  readonly size: VmSize;
  readonly vm: VmRecord | null;
  /** on the host; undefined in records of earlier versions */
  readonly cgroup?: string;
  readonly network: PodNetwork | null;
  /** what stop must still undo; false once it has */
  readonly hasResources: boolean;
}

/**
 * A container as it is kept in the store.
 *
 *   creating ──create──▶ created ──start──▶ running ──exit──▶ exited
 *                           │               ▲     │              ▲
 *                           │         unpause     pause          │
 *                           │               │     ▼              │
 *                           │              (paused) ── stop ─────┤
 *                           └──── start fails, sandbox stops ────┘
 *
 * `paused` is a mark of a running one: CRI knows no such state.
 * `creating` is never listed; `unknown` is a running one whose VM a restarted daemon could not ask.
 */
export interface ContainerRecord extends Omit<ContainerView, 'id' | 'state' | 'info'> {
  readonly version: 1;
  readonly state: 'creating' | ContainerState;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** its processes are frozen */
  readonly paused?: boolean;
  /** number of the signal that asks it to stop */
  readonly stopSignalNumber: number;
}

/** A VM that waits for its pod; its key becomes the sandbox's id. */
export interface SpareRecord {
  readonly version: 1;
  readonly cid: number;
  readonly uid: number;
}

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
    info: {
      vm,
      network,
      cgroup: record.cgroup,
      ...record.size,
      cid: record.cid,
      uid: record.uid,
      paused: record.paused === true,
    },
  };
}

export function containerView(id: string, record: ContainerRecord): ContainerView {
  const { version: _version, stopSignalNumber: _number, state, tty, stdin, paused = false, ...rest } = record;
  return {
    id,
    ...rest,
    state: state === 'creating' ? 'unknown' : state,
    info: { sandboxID: record.sandboxId, pid: 0, tty, stdin, paused },
  };
}
