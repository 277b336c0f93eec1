import type { IdMappings } from '../lib/user-namespace.ts';
import type { ScratchDisks } from '../vm/contracts.ts';

/** The storage ports: one writable disk per pod for all its containers' upper layers; host files and directories as volumes. */

export interface StoragePort extends ScratchDisks {
  /** where the scratch disks are */
  readonly directory: string;
  /** A new disk, `<directory>/<sandboxId>.qcow2`, for this user alone. Returns its path. Undone by `removeScratch`. */
  createScratch(sandboxId: string, ownerUid: number, signal: AbortSignal): Promise<string>;
  /** Idempotent. */
  removeScratch(sandboxId: string): Promise<void>;
  /** Bytes on disk and files of all pods' scratch disks. */
  usage(): Promise<{ readonly mountpoint: string; readonly usedBytes: number; readonly inodesUsed: number }>;
}

export type HostPathKind = 'file' | 'directory' | 'block device' | 'character device' | 'socket' | 'fifo';

/** A tmpfs or hugetlbfs of the node, with the path in it. */
export interface MemoryVolume {
  /** the same for all paths of this file system; digits and hyphens */
  readonly key: string;
  /** of huge pages; 0: a tmpfs */
  readonly pageBytes: number;
  /** 0: no limit */
  readonly sizeBytes: number;
  /** of its root */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** relative; empty: its root */
  readonly subPath: string;
}

/** Something on the host that is held open: what it is cannot change any more. */
export interface HostPath extends AsyncDisposable {
  readonly fd: number;
  /** without symbolic links */
  readonly path: string;
  readonly kind: HostPathKind;
  /** the file system and the path in it, whatever it is mounted as */
  readonly location: { readonly device: string; readonly path: string };
  /** of a device node */
  readonly device: { readonly major: number; readonly minor: number };
  /** set below a memory-backed emptyDir of the kubelet's */
  readonly memory: MemoryVolume | undefined;
  /** of a directory that the kubelet changes as a whole (ConfigMap, Secret, token): what its link `..data` leads to */
  readonly data: string | undefined;
  readonly hasSubmounts: boolean;
  /** what is mounted below it later can be passed on */
  readonly propagates: boolean;
}

/** A file or directory to be seen by the guest. */
export interface Bind {
  readonly source: HostPath;
  /** `recursive`: what is mounted below it, too. The host enforces it, whatever the guest does. */
  readonly readOnly: 'no' | 'yes' | 'recursive';
  /** what is mounted below the source on the host later appears as well */
  readonly followsHost: boolean;
  /** how the owners of its files are mapped; undefined: they are as on the host */
  readonly owners?: IdMappings | undefined;
}

/** What a pod sees of the host: a virtiofsd with one directory, `<container>/<number of the bind>` for each volume. */
export interface VolumeShare extends AsyncDisposable {
  /** of virtiofsd */
  readonly processes: readonly { readonly pid: number }[];
  /** of vhost-user, for its VM's user */
  readonly socket: string;
  /** resolves with the last words of virtiofsd when it has ended; then no volume of the pod answers any more */
  readonly exited: Promise<string>;
  /**
   * All or nothing. `already_exists` when the container has binds, `failed_precondition` when a file system cannot map
   * owners.
   */
  bind(containerId: string, binds: readonly Bind[]): Promise<void>;
  /**
   * Tells, until its release, what `..data` leads to in each directory of the container's that has such a link: now,
   * and after every change.
   */
  follow(containerId: string, changed: (number: number, data: string) => void): Promise<void>;
  /** Idempotent. */
  release(containerId: string): Promise<void>;
  /** of the containers that have binds */
  containers(): Promise<string[]>;
  /** The daemon looks away; the guest keeps its volumes. */
  disconnect(): Promise<void>;
  /** Ends virtiofsd and with it every bind; removes its files. Idempotent. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface VolumePort {
  /** An empty share, to which the VM's user can connect once. Throws `failed_precondition` without virtiofsd. */
  share(sandboxId: string, vmUid: number, signal: AbortSignal): Promise<VolumeShare>;
  /** The one that an earlier daemon made; undefined when there was none or it has ended. */
  adopt(sandboxId: string): Promise<VolumeShare | undefined>;
  /** Whether the sandbox has, or had, a share. */
  exists(sandboxId: string): Promise<boolean>;
  /** Removes what is left of a share. Idempotent. */
  discard(sandboxId: string): Promise<void>;
  /**
   * Opens a host path. Symbolic links are followed, but none that a pod could have made: `failed_precondition`, as for a
   * path that does not exist.
   */
  open(hostPath: string): Promise<HostPath>;
  /** What the node itself does with the block device, or a part of it, such as `has mounted on /`; undefined: nothing. */
  useOf(device: HostPath): Promise<string | undefined>;
}
