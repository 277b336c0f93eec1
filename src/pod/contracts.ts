/** What the edges (cri, streaming, ssh, cli) call. Reads answer from memory, even while a VM hangs. */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { ContainerConfig__Output } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { LinuxContainerResources__Output } from '../../proto/generated/runtime/runtime/v1/LinuxContainerResources.ts';
import type { Mount__Output } from '../../proto/generated/runtime/runtime/v1/Mount.ts';
import type { NamespaceOption__Output } from '../../proto/generated/runtime/runtime/v1/NamespaceOption.ts';
import type { PodSandboxConfig__Output } from '../../proto/generated/runtime/runtime/v1/PodSandboxConfig.ts';
import type { StatsService } from './stats/contracts.ts';

export type * from './stats/contracts.ts';

/** The CRI messages as proto-loader decodes them: snake_case, int64 as decimal strings, enums as names, bytes as Buffers. */
export type PodSandboxConfig = PodSandboxConfig__Output;
export type ContainerConfig = ContainerConfig__Output;
export type LinuxContainerResources = LinuxContainerResources__Output;
export type CriMount = Mount__Output;
export type NamespaceOption = NamespaceOption__Output;

/** Decimal nanoseconds since the epoch; a string, because it does not fit a number. */
export type TimestampNs = string;

export type SandboxState = 'ready' | 'notready';

/** A snapshot; plain data. */
export interface SandboxView {
  readonly id: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly attempt: number;
  };
  readonly state: SandboxState;
  /** why it is not ready, if it is not */
  readonly reason: string;
  readonly createdAt: TimestampNs;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly runtimeHandler: string;
  readonly ips: readonly string[];
  readonly namespaceOptions: NamespaceOption | null;
  /** for verbose status: anything worth showing, JSON data */
  readonly info: Readonly<Record<string, unknown>>;
}

export type ContainerState = 'created' | 'running' | 'exited' | 'unknown';

/** A snapshot; plain data. */
export interface ContainerView {
  readonly id: string;
  readonly sandboxId: string;
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly state: ContainerState;
  readonly createdAt: TimestampNs;
  /** `0` before it happened */
  readonly startedAt: TimestampNs;
  readonly finishedAt: TimestampNs;
  readonly exitCode: number;
  /** `Completed`, `Error`, `OOMKilled`, `StartError`, `VMDied` or empty */
  readonly reason: string;
  readonly message: string;
  /** as the caller named it */
  readonly image: string;
  /** Image.id */
  readonly imageId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly mounts: readonly CriMount[];
  /** absolute; empty when no log was asked for */
  readonly logPath: string;
  readonly resources: LinuxContainerResources | null;
  readonly user: { readonly uid: number; readonly gid: number; readonly supplementalGroups: readonly number[] };
  /** CRI's Signal enum name, or `RUNTIME_DEFAULT` */
  readonly stopSignal: string;
  readonly info: Readonly<Record<string, unknown>>;
}

export type PodEventType = 'created' | 'started' | 'stopped' | 'deleted';

/** Something that happened to a container or to a sandbox, with the whole pod as it was right after. */
export interface PodEvent {
  /** of the container; of the sandbox itself where it is about that */
  readonly id: string;
  readonly type: PodEventType;
  readonly timestamp: TimestampNs;
  readonly sandbox: SandboxView;
  /** a deleted container is not among them */
  readonly containers: readonly ContainerView[];
}

export interface SandboxFilter {
  /** full id or prefix */
  readonly id?: string;
  readonly state?: SandboxState;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ContainerFilter {
  readonly id?: string;
  readonly sandboxId?: string;
  readonly state?: ContainerState;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ExecResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exitCode: number;
}

export interface TerminalSize {
  /** characters */
  readonly columns: number;
  readonly rows: number;
}

export interface StreamsWanted {
  readonly stdin: boolean;
  readonly stdout: boolean;
  /** never with a terminal, whose output is one stream */
  readonly stderr: boolean;
}

export interface ExecStreamRequest extends StreamsWanted {
  readonly command: readonly string[];
  readonly tty: boolean;
  /** added to the container's own environment */
  readonly env?: Readonly<Record<string, string>>;
  readonly size?: TerminalSize;
}

export interface ProcessExit {
  /** 128 + n when killed by signal n */
  readonly code: number;
  /** the number of the signal that killed it, else 0 */
  readonly signal: number;
}

/**
 * A process at the other end of streams. Each stream has back-pressure down to the process: while nobody reads `stdout`,
 * the process is not read either. Streams that were not asked for are undefined.
 */
export interface ProcessSession extends AsyncDisposable {
  /** `end()` closes the process's standard input; of a terminal, it sends end-of-file */
  readonly stdin: Writable | undefined;
  /** ends after the last byte; destroyed with an error when the VM dies */
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** ignored without a terminal */
  resize(size: TerminalSize): void;
  /** to the process; a number as in signal(7) */
  signal(signal: number): void;
  /**
   * Of an exec, how its command ended; of an attach, how the container did. Does not wait for the streams to be read.
   * Rejects with `unavailable` when the VM has died, `cancelled` when the session was disposed first, and
   * `resource_exhausted` when a client that is attached did not read and kept the container waiting for 10 s.
   */
  readonly exited: Promise<ProcessExit>;
  /** Leaves: an exec's command gets end-of-file and SIGHUP, and SIGKILL soon after; an attached container goes on. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * What the streaming server and the SSH gateway call. Ids as for PodService. `signal` breaks off the opening only: what
 * is open ends by its own disposal, or by destroying the Duplex.
 */
export interface StreamService {
  /** The full id. `not_found`; `failed_precondition` unless the container is running. `tty`: as it was created. */
  streamable(containerId: string): { readonly id: string; readonly tty: boolean; readonly stdin: boolean };
  /** The full id. `not_found`; `failed_precondition` unless the sandbox is ready. */
  forwardable(sandboxId: string): { readonly id: string };
  /** A command that is not there or cannot be executed is `not_found` or `permission_denied`, with crun's words. */
  execStream(containerId: string, request: ExecStreamRequest, signal: AbortSignal): Promise<ProcessSession>;
  /**
   * The container's own streams from now on; several at once. `tty` is the container's own. The end of `stdin` reaches
   * the container only if it was created with stdin_once, as does the leaving of a client, unless it has a terminal.
   * What is written to a container without stdin is dropped.
   */
  attach(containerId: string, streams: StreamsWanted, signal: AbortSignal): Promise<ProcessSession>;
  /** As execStream, as root of the VM itself, with all its processes and files: for operators alone. */
  vmExec(sandboxId: string, request: ExecStreamRequest, signal: AbortSignal): Promise<ProcessSession>;
  /**
   * An SFTP server (version 3) in the container's root, as the container's own user: its stdin takes what a client says,
   * its stdout is the answer. The container needs no program for it.
   */
  sftp(containerId: string, signal: AbortSignal): Promise<ProcessSession>;
  /** A connection to 127.0.0.1 or ::1 of the pod; `unavailable` when nobody listens. Half-close works both ways. */
  portForward(sandboxId: string, port: number, signal: AbortSignal): Promise<Duplex>;
}

export interface PoolView {
  readonly size: number;
  readonly ready: number;
  /** why it is not full, unless it is just being filled */
  readonly reason: string;
}

/** Ids may be unambiguous prefixes everywhere. Methods throw CaissonError; see each for the codes beyond `not_found`. */
export interface PodService extends StreamService, AsyncDisposable {
  /** `invalid_argument` for a config that can never run, `already_exists` for a taken name. Returns the id. */
  runSandbox(config: PodSandboxConfig, runtimeHandler: string, signal: AbortSignal): Promise<string>;
  /** Idempotent, also for unknown ids. */
  stopSandbox(id: string): Promise<void>;
  /** Idempotent, also for unknown ids; removes the sandbox's containers by force. */
  removeSandbox(id: string): Promise<void>;
  /**
   * One that was stopped or whose VM has ended, under its id and with its addresses; nothing for one that is ready.
   * `unavailable` when the network does not give them.
   */
  startSandbox(id: string, signal: AbortSignal): Promise<void>;
  /** Stops the VM's processors; what needs the guest then throws `failed_precondition`. Idempotent, as the next. */
  pauseSandbox(id: string): Promise<void>;
  resumeSandbox(id: string): Promise<void>;
  sandbox(id: string): SandboxView;
  sandboxes(filter: SandboxFilter): SandboxView[];

  createContainer(
    sandboxId: string,
    config: ContainerConfig,
    sandboxConfig: PodSandboxConfig | null,
    signal: AbortSignal,
  ): Promise<string>;
  /** `failed_precondition` unless the container is in state created. */
  startContainer(id: string, signal: AbortSignal): Promise<void>;
  /** Idempotent, also for unknown ids. Stop signal, then after `timeoutMs` SIGKILL; 0 kills at once. */
  stopContainer(id: string, timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** Freezes a running container's processes; execs and attaches then throw `failed_precondition`. Idempotent. */
  pauseContainer(id: string): Promise<void>;
  unpauseContainer(id: string): Promise<void>;
  /** Idempotent, also for unknown ids; a running container is killed. */
  removeContainer(id: string): Promise<void>;
  /** Zero values stay as they were. `failed_precondition` unless created or running; `resource_exhausted`. */
  updateContainerResources(id: string, resources: LinuxContainerResources, signal: AbortSignal): Promise<void>;
  /** The VM grows, and never shrinks. `failed_precondition` unless ready; `resource_exhausted`. */
  updateSandboxResources(
    id: string,
    asked: { readonly resources: LinuxContainerResources | null; readonly overhead: LinuxContainerResources | null },
    signal: AbortSignal,
  ): Promise<void>;
  container(id: string): ContainerView;
  containers(filter: ContainerFilter): ContainerView[];

  /** `deadline_exceeded` when `timeoutMs` (0: none) is over: the command has been killed in the guest. Output is cut at 16 MiB a stream. */
  execSync(id: string, command: readonly string[], timeoutMs: number, signal: AbortSignal): Promise<ExecResult>;
  /** Opens the log file anew after a rotation; `failed_precondition` unless running. */
  reopenLog(id: string): Promise<void>;
  /** The node's pod CIDRs, from UpdateRuntimeConfig; kept for CNI configurations that ask for them. */
  setPodCidr(cidr: string): void;
  readonly stats: StatsService;
  /**
   * What happens from now on, in order, nothing left out. Throws the signal's reason when it aborts, and
   * `resource_exhausted` when the reader falls far behind.
   */
  events(signal: AbortSignal): AsyncIterable<PodEvent>;
  /** VMs that wait for pods. */
  pool(): PoolView;
}

/** The RuntimeClass handler of pods without volumes, whose VMs can share the template's memory. */
export const DENSE_HANDLER = 'caisson-dense';
export const RUNTIME_HANDLERS: readonly string[] = ['', 'caisson', DENSE_HANDLER];
