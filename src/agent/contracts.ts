/** The agent port: a typed client of the guest agent. All that comes back is hostile and has been bounded. */
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
  /** of the ext4 disk for what containers write; empty: they write to memory */
  readonly scratchSerial: string;
  readonly shmSizeBytes: number;
}

export interface UserSettings {
  /** as in an image config */
  readonly user: string;
  readonly gid: number | undefined;
  readonly supplementalGroups: readonly number[];
  readonly strictGroups: boolean;
}

export interface ContainerSettings {
  readonly id: string;
  /** bottom first */
  readonly layerSerials: readonly string[];
  /** an OCI runtime spec */
  readonly ociSpec: object;
  readonly user: UserSettings;
  readonly stdin: boolean;
}

export interface AgentUser {
  readonly uid: number;
  readonly gid: number;
  readonly supplementalGroups: readonly number[];
}

export interface AgentExit {
  readonly code: number;
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

/** Methods throw CaissonError with the agent's code and words; `unavailable` when it does not answer. */
export interface AgentClient extends Disposable {
  info(signal: AbortSignal): Promise<AgentInfo>;
  configureSandbox(settings: SandboxSettings, signal: AbortSignal): Promise<void>;
  createContainer(settings: ContainerSettings, signal: AbortSignal): Promise<AgentUser>;
  /** `not_found`, `permission_denied`: the command is not there or cannot be executed. */
  startContainer(id: string, signal: AbortSignal): Promise<void>;
  /** `ignored`: the container has no handler for the signal, only SIGKILL will end it. */
  signalContainer(id: string, signal: number, all: boolean): Promise<{ readonly ignored: boolean }>;
  /** Resolves when the container has ended; rejects when the VM or this client has. */
  waitContainer(id: string): Promise<AgentExit>;
  removeContainer(id: string): Promise<void>;
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
}
