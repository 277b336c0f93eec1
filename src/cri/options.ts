import type { FsUsage, ImagePort } from '../image/contracts.ts';
import type { Logger } from '../lib/logger.ts';
import type { NetworkStatus } from '../network/contracts.ts';
import type { PodService } from '../pod/contracts.ts';
import type { StreamingServer } from '../streaming/contracts.ts';

/** Answered from memory, at once. */
export interface RuntimeState {
  readonly ready: boolean;
  /** CamelCase word for a condition that is not met, else empty */
  readonly reason: string;
  readonly message: string;
  /** JSON data for verbose Status */
  readonly info: Readonly<Record<string, unknown>>;
}

/** What Status promises the kubelet; a feature that is not promised is not asked for. */
export interface RuntimeFeatures {
  readonly recursiveReadOnlyMounts: boolean;
  readonly userNamespaces: boolean;
  readonly supplementalGroupsPolicy: boolean;
}

/** Everything an RPC may call. */
export interface CriServices {
  readonly pods: PodService;
  readonly images: ImagePort;
  readonly streaming: StreamingServer;
  readonly network: () => NetworkStatus;
  readonly runtime: () => RuntimeState;
  /** where containers' writable layers are; ImageFsInfo names no container file system without it */
  readonly containerFs?: () => Promise<FsUsage>;
  /** how the kubelet is to name the cgroups of pods; cgroupfs if left out */
  readonly cgroupDriver?: 'cgroupfs' | 'systemd';
  /** Caisson's own version, such as `0.1.0` */
  readonly version: string;
  /** RuntimeClass handlers that RunPodSandbox takes; those of the pod service if left out */
  readonly runtimeHandlers?: readonly string[];
  /** none if left out */
  readonly features?: RuntimeFeatures;
}

export interface CriOptions extends CriServices {
  /** absolute; its directory is made when it is missing */
  readonly socketPath: string;
  readonly log: Logger;
  /** `ms` that running RPCs get when the server is disposed, 5000 if left out */
  readonly shutdownGraceMs?: number;
}

export const noFeatures: RuntimeFeatures = {
  recursiveReadOnlyMounts: false,
  userNamespaces: false,
  supplementalGroupsPolicy: false,
};
