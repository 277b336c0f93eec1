/** The agent port: a typed client of the guest agent. All that comes back is hostile and has been bounded. */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { GuestInterface } from '../network/contracts.ts';

export interface AgentInfo {
  readonly agentVersion: string;
  readonly kernelRelease: string;
  readonly bootId: string;
  readonly configured: boolean;
  readonly containers: readonly { readonly id: string; readonly started: boolean; readonly exit: AgentExit | null }[];
}

export interface SandboxSettings {
  readonly sandboxId: string;
  readonly hostname: string;
  readonly interface: GuestInterface | undefined;
  readonly resolvConf: string;
  readonly hosts: string;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly shmSizeBytes: number;
}

export interface UserSettings {
  /** as in an image config */
  readonly user: string;
  readonly gid: number | undefined;
  readonly supplementalGroups: readonly number[];
  readonly strictGroups: boolean;
}

/** Something that the guest shall make mountable under the name `source`. */
export type GuestVolume =
  /** a directory of the container's own, which begins as `path` of its root file system */
  | { readonly source: string; readonly kind: 'own'; readonly path: string }
  /** `number` of the container's bind in the pod's share */
  | { readonly source: string; readonly kind: 'shared'; readonly number: number }
  /** as a shared one, which the kubelet changes as a whole: `data` is the directory with what is valid now */
  | { readonly source: string; readonly kind: 'mirrored'; readonly number: number; readonly data: string }
  | {
      readonly source: string;
      /** a tmpfs or hugetlbfs of the guest */
      readonly kind: 'memory';
      readonly key: string;
      /** of huge pages; 0: a tmpfs */
      readonly pageBytes: number;
      readonly sizeBytes: number;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
      readonly subPath: string;
    }
  | {
      readonly source: string;
      readonly kind: 'image';
      /** bottom first */
      readonly layerSerials: readonly string[];
      /** relative; empty: all of it */
      readonly subPath: string;
    };

/** A disk of the VM as a device node of the container. */
export interface GuestBlockDevice {
  readonly path: string;
  readonly serial: string;
  /** of `r`, `w` and `m` */
  readonly permissions: string;
}

/** For the guest's kernel. */
export interface GuestAppArmorPolicy {
  /** text for apparmor_parser, or what that gives the kernel */
  readonly kind: 'source' | 'compiled';
  readonly data: Buffer;
}

export interface ContainerSettings {
  readonly id: string;
  /** bottom first */
  readonly layerSerials: readonly string[];
  /** an OCI runtime spec */
  readonly ociSpec: object;
  readonly volumes: readonly GuestVolume[];
  readonly blockDevices: readonly GuestBlockDevice[];
  /** undefined: the guest has the profile that the spec names */
  readonly appArmor?: GuestAppArmorPolicy | undefined;
  readonly user: UserSettings;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
}

export interface AgentUser {
  readonly uid: number;
  readonly gid: number;
  readonly supplementalGroups: readonly number[];
}

export interface AgentExit {
  readonly code: number;
  /** decimal, by the guest's clock; may be anything */
  readonly finishedAtNs: string;
  readonly oomKilled: boolean;
}

export interface OutputChunk {
  readonly stream: 'stdout' | 'stderr';
  readonly data: Buffer;
  readonly timeNs: string;
  /** behind `data`, both streams counted together */
  readonly endOffset: number;
}

export interface ExecOutcome {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exitCode: number;
  readonly timedOut: boolean;
}

/** Counts since the start; `bytes`, `Us` microseconds. All are whole and not negative. */
export interface CgroupStats {
  readonly cpu: {
    readonly usageUs: number;
    readonly userUs: number;
    readonly systemUs: number;
    readonly periods: number;
    readonly throttledPeriods: number;
    readonly throttledUs: number;
  };
  readonly memory: {
    readonly currentBytes: number;
    readonly peakBytes: number;
    readonly anonBytes: number;
    readonly fileBytes: number;
    readonly inactiveFileBytes: number;
    readonly mappedFileBytes: number;
    readonly kernelBytes: number;
    readonly swapBytes: number;
    readonly pageFaults: number;
    readonly majorPageFaults: number;
    readonly limitHits: number;
    readonly oomKills: number;
  };
  readonly processes: number;
  /** processes and threads together */
  readonly tasks: number;
  /** 0: no limit */
  readonly tasksMax: number;
  /** null where the guest's kernel does not count it */
  readonly pressure: { readonly cpu: Pressure | null; readonly memory: Pressure | null; readonly io: Pressure | null };
  readonly io: readonly DeviceIo[];
  readonly hugepages: readonly {
    readonly pageSize: string;
    readonly currentBytes: number;
    readonly peakBytes: number;
  }[];
}

export interface Pressure {
  readonly some: PressureLine;
  readonly full: PressureLine;
}

/** Averages are per cent of the last 10, 60 and 300 s. */
export interface PressureLine {
  readonly totalUs: number;
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
}

export interface DeviceIo {
  readonly major: number;
  readonly minor: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
}

export interface AgentContainerStats {
  readonly cgroup: CgroupStats;
  /** what it has written, as last measured; null before the first time */
  readonly written: { readonly usedBytes: number; readonly inodes: number } | null;
  /** null unless asked for */
  readonly details: {
    readonly fileDescriptors: number;
    readonly sockets: number;
    readonly maxOpenFiles: number;
  } | null;
}

export interface AgentStats {
  /** by container id */
  readonly containers: ReadonlyMap<string, AgentContainerStats>;
  readonly pod: CgroupStats;
  /** of the disk for everything that containers write */
  readonly scratch: {
    readonly totalBytes: number;
    readonly freeBytes: number;
    readonly inodes: number;
    readonly freeInodes: number;
  } | null;
}

export interface StreamSelection {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

export interface ExecSettings extends StreamSelection {
  readonly containerId: string;
  readonly command: readonly string[];
  readonly tty: boolean;
  /** over the container's own */
  readonly env: Readonly<Record<string, string>>;
  readonly size: { readonly columns: number; readonly rows: number } | undefined;
}

/** As ProcessSession of src/pod/contracts.ts. */
export interface AgentSession extends AsyncDisposable {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize(size: { readonly columns: number; readonly rows: number }): void;
  signal(signal: number): void;
  readonly exited: Promise<{ readonly code: number; readonly signal: number }>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Methods throw CaissonError with the agent's code and words; `unavailable` when it does not answer. */
export interface AgentClient extends Disposable {
  info(signal: AbortSignal): Promise<AgentInfo>;
  /** Configures the network and takes it back, so that code and programs have been used once. */
  rehearseNetwork(network: GuestInterface, signal: AbortSignal): Promise<void>;
  configureSandbox(settings: SandboxSettings, signal: AbortSignal): Promise<void>;
  createContainer(settings: ContainerSettings, signal: AbortSignal): Promise<AgentUser>;
  /**
   * Returns when the process runs. `not_found`, `permission_denied`: the command is not there or cannot be executed. A caller that
   * does not look at `exited` need not: `waitContainer` tells the same, also after the connection was lost.
   */
  startContainer(id: string, signal: AbortSignal): Promise<{ readonly exited: Promise<AgentExit> }>;
  /** `resources`: OCI `linux.resources`; what is left out stays. `failed_precondition` unless it has been created. */
  updateContainer(id: string, resources: object, signal: AbortSignal): Promise<void>;
  /** Brings plugged-in processors online, `count` in all. */
  onlineProcessors(count: number, signal: AbortSignal): Promise<void>;
  /** Moves the guest's clock by so many ms, `slowly` or at once; returns its time then, ms since the epoch. */
  adjustClock(byMs: number, how: { readonly slowly: boolean }, signal: AbortSignal): Promise<number>;
  /** `ignored`: the container has no handler for the signal, only SIGKILL will end it. */
  signalContainer(id: string, signal: number, all: boolean): Promise<{ readonly ignored: boolean }>;
  /** All processes of a running container, or `frozen: false`: thaws them. Returns when it is done; idempotent. */
  freezeContainer(id: string, frozen: boolean): Promise<void>;
  /** Resolves when the container has ended; rejects when the VM or this client has. */
  waitContainer(id: string): Promise<AgentExit>;
  /** Tells that a mirrored volume has changed; others are left alone. */
  syncVolume(id: string, number: number, data: string): Promise<void>;
  removeContainer(id: string): Promise<void>;
  /** Of all containers that run. `details`: look at each process too. Given up after a few seconds. */
  stats(details: boolean, signal: AbortSignal): Promise<AgentStats>;
  /**
   * Hands everything the container prints to `store`, in order, one chunk at a time, beginning behind what was last
   * acknowledged. `store` returns the offset up to which to acknowledge. Resolves after the last byte.
   */
  output(id: string, store: (chunk: OutputChunk) => Promise<number>): Promise<void>;
  /** Output is cut at `maxBytes` a stream. `signal` kills the command. */
  execSync(
    id: string,
    command: readonly string[],
    timeoutMs: number,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<ExecOutcome>;
  /**
   * Each returns when the stream is open; `signal` breaks off only what comes before. Disposing this client ends all
   * open streams with `unavailable`. As StreamService of src/pod/contracts.ts.
   */
  exec(settings: ExecSettings, signal: AbortSignal): Promise<AgentSession>;
  attach(containerId: string, streams: StreamSelection, signal: AbortSignal): Promise<AgentSession>;
  sftp(containerId: string, signal: AbortSignal): Promise<AgentSession>;
  portForward(port: number, signal: AbortSignal): Promise<Duplex>;
}
