/** The VM port: starts, watches, feeds and kills the virtual machine of a pod. */

export type Accelerator = 'kvm' | 'tcg';
export type VsockTransport = 'vhost-vsock' | 'vhost-user-vsock';

export interface VmSpec {
  readonly sandboxId: string;
  /** host-wide unique vsock address, >= 3 */
  readonly cid: number;
  /** QEMU and its helpers run as this user */
  readonly uid: number;
  /** none for a VM without network, such as the accelerator's probe */
  readonly network?: {
    /** null: a new one that nobody can reach, gone with the VM */
    readonly netnsPath: string | null;
    readonly tapName: string;
    readonly mac: string;
  };
  /** path of a qcow2 of `ScratchDisks`, for what containers write; none for a VM that never has any, such as the probe */
  readonly scratch?: string;
  /** at low priority, until `hurry` */
  readonly background?: boolean;
  /** directories of the pod's cgroup, for all processes of the VM */
  readonly cgroup?: readonly string[];
  /** it never gets volumes, so that its memory need not be shared with their server */
  readonly dense?: boolean;
}

/** Makes the disks for what containers write, each an empty ext4 of the configured size. In src/storage. */
export interface ScratchDisks {
  /** changes with what a new disk holds */
  readonly diskVersion: string;
  /** A new disk for this user alone, in the place of what is at `path`. */
  renewDisk(path: string, ownerUid: number, signal: AbortSignal): Promise<void>;
  /** A new disk that needs no other file. */
  makeWholeDisk(path: string, ownerUid: number, signal: AbortSignal): Promise<void>;
}

export interface DiskSpec {
  /** how the guest finds it: `/sys/block/<name>/device/vpd_pg80`; at most 26 characters of `[a-z0-9-]`, for QEMU */
  readonly serial: string;
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  readonly readOnly: boolean;
  /** numbers of a block device of the node; QEMU gets a node of its own for it, since its user may not open others */
  readonly device?: { readonly major: number; readonly minor: number };
}

export interface VmSize {
  readonly vcpus: number;
  readonly memoryMib: number;
}

export interface VmExit {
  /** one sentence: how QEMU ended, with the last lines of its stderr and of the guest's log */
  readonly reason: string;
}

/** Persisted with the sandbox: enough to find the VM again after a restart of the daemon, or to clean up after it. */
export interface VmRecord {
  readonly cid: number;
  readonly uid: number;
  readonly pid: number;
  /** start time of the process in clock ticks, so that a recycled pid is not taken for QEMU */
  readonly startTicks: string;
  readonly helperPids: readonly { readonly pid: number; readonly startTicks: string }[];
  readonly transport: VsockTransport;
  readonly accelerator: Accelerator;
}

export interface Vm extends AsyncDisposable {
  readonly record: VmRecord;
  /** unix socket that carries a connection to the guest agent's vsock port */
  readonly agentSocket: string;
  /** resolves once, when QEMU is gone for whatever reason */
  readonly exited: Promise<VmExit>;
  /** Hot-plugs a disk; returns when QEMU has it. The same serial twice is no error. */
  attachDisk(disk: DiskSpec, signal: AbortSignal): Promise<void>;
  /**
   * Plugs in the file system that virtiofsd serves on this unix socket; the guest mounts it by `FS_TAG`. A VM has one:
   * a second call is no error.
   */
  attachFs(socketPath: string, signal: AbortSignal): Promise<void>;
  /**
   * Plugs in memory up to this size; what the VM has more of stays. Returns when the guest has it; `unavailable` or
   * `deadline_exceeded` when it does not take it. Processors are there from the start: the agent brings them online.
   */
  growMemory(mib: number, signal: AbortSignal): Promise<void>;
  /** Stops all processors, until `resume`; also of a VM that an earlier daemon has paused. Both are idempotent. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the low priority of a VM that was started in the background. */
  hurry(): Promise<void>;
  /** Last lines of the guest's log, for error messages. */
  guestLogTail(): string;
  /** The daemon's connections end; the VM goes on, for the next daemon to adopt. */
  disconnect(): Promise<void>;
  /** Kills QEMU and its helpers and removes their files. Idempotent, never waits on the guest. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface VmPort extends AsyncDisposable {
  /**
   * Clones or boots a VM; returns when QEMU runs and the agent's socket can be dialled. Leaves nothing behind when it throws;
   * `resource_exhausted` when the host is short of memory.
   */
  start(spec: VmSpec, signal: AbortSignal): Promise<Vm>;
  /** Takes a running VM over again after a restart of the daemon; undefined when it is gone. */
  adopt(sandboxId: string, record: VmRecord): Promise<Vm | undefined>;
  /** Removes what an earlier daemon left of a VM: processes and files. Idempotent. */
  discard(sandboxId: string, record: VmRecord | undefined): Promise<void>;
  /** What the last probe found; undefined until a guest has really booted with it. */
  accelerator(): { readonly kind: Accelerator; readonly reason: string } | undefined;
  /** From memory: whether VMs can start at all, as far as is known. */
  readiness(): Readiness;
  readonly transport: VsockTransport;
  /** what a VM starts with, and what it can grow to */
  readonly sizes: { readonly least: VmSize; readonly most: VmSize };
  /** Memory of the host that VMs may still take, `MiB`; negative when the reserve is being used up. */
  spareMemoryMib(): Promise<number>;
  /** How a clone of this kind comes by its memory, and why. */
  memoryOf(spec: Pick<VmSpec, 'dense'>): MemoryChoice;
  /** How pods start just now, and why: by cloning the template, or by booting. */
  template(): TemplateStatus;
  /** resolves when the accelerator has been chosen and the template made, or neither can be */
  readonly settled: Promise<void>;
}

/** What the helpers of a VM and QEMU itself take beside the guest's memory, `MiB`: without KVM, half of it translated code. */
export const HELPERS_MIB = 192;

/**
 * The cgroup of a pod on the host, around QEMU and its helpers. A path is from the root of each of the host's
 * hierarchies.
 */
export interface CgroupPort {
  /**
   * The cgroup in which a pod's is to be made: `parent`, a path or a systemd slice, unless its limit has no room for a
   * VM of this size; else, and if it is empty, the configured one. Throws `invalid_argument` for what is neither.
   */
  place(parent: string, memoryMib: number): Promise<string>;
  /** Undone by `remove`. */
  make(path: string): Promise<void>;
  directories(path: string): readonly string[];
  enter(path: string, processes: readonly { readonly pid: number }[]): Promise<void>;
  /** Waits for its processes to end. Idempotent. */
  remove(path: string): Promise<void>;
}

export type Readiness = { readonly ready: true } | { readonly ready: false; readonly message: string };

export interface MemoryChoice {
  /** private: pages of the template until they are written, then the clone's own */
  readonly kind: 'private' | 'copied';
  readonly reason: string;
}

export interface TemplateStatus {
  readonly state: 'off' | 'being made' | 'ready' | 'failed';
  /** the template's directory, or why there is none */
  readonly detail: string;
}

/** The serial of the disk for what containers write: guest-agent/src/sandbox.ts. */
export const SCRATCH_SERIAL = 'scratch';

/** The guest's name of the file system with the pod's volumes: guest-agent/src/volumes.ts. */
export const FS_TAG = 'caisson';

/** The file that remembers what the last probe of the accelerator found: with this guest image, on this host. */
export const probeMemory = (guestImage: string): string => `${guestImage}.accelerator.json`;
