/** What crictl prints with `-o json`: the messages of the contract in protobuf's JSON, so far as the steps look at them. */

export interface Info {
  readonly status: { readonly conditions: readonly { readonly type: string; readonly status: boolean }[] };
  readonly info?: unknown;
  readonly runtimeHandlers?: readonly { readonly name?: string }[];
}

export interface ImageList {
  readonly images: readonly ImageEntry[];
}

export interface ImageEntry {
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  readonly size: string;
  readonly pinned: boolean;
}

export interface ImageInspection {
  readonly status: ImageEntry;
  readonly info: { readonly config: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[] } };
}

export interface FsInfo {
  readonly status: {
    readonly imageFilesystems: readonly FsUsage[];
    readonly containerFilesystems: readonly FsUsage[];
  };
}

interface FsUsage {
  readonly timestamp: string;
  readonly fsId: { readonly mountpoint: string };
  readonly usedBytes: { readonly value: string };
  readonly inodesUsed: { readonly value: string };
}

interface Metadata {
  readonly name: string;
  readonly attempt: number;
}

export interface PodList {
  readonly items: readonly PodEntry[];
}

interface PodEntry {
  readonly id: string;
  readonly metadata: Metadata & { readonly namespace: string; readonly uid: string };
  readonly state: string;
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly runtimeHandler: string;
}

export interface PodInspection {
  readonly status: PodEntry & { readonly network: { readonly ip: string; readonly additionalIps: readonly unknown[] } };
  readonly info: Readonly<Record<string, unknown>>;
}

export interface ContainerList {
  readonly containers: readonly ContainerEntry[];
}

interface ContainerEntry {
  readonly id: string;
  readonly podSandboxId: string;
  readonly metadata: Metadata;
  readonly image: { readonly image: string };
  readonly imageRef: string;
  readonly state: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ContainerInspection {
  readonly status: Omit<ContainerEntry, 'podSandboxId'> & {
    readonly createdAt: string;
    readonly startedAt: string;
    readonly finishedAt: string;
    readonly exitCode: number;
    readonly reason: string;
    readonly annotations: Readonly<Record<string, string>>;
    readonly logPath: string;
  };
}
