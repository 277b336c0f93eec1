/** The storage port: one writable disk per pod for all its containers' upper layers. */

export interface ScratchDisk {
  /** qcow2 file, owned by `ownerUid` */
  readonly path: string;
  readonly format: 'qcow2';
}

export interface StoragePort {
  /** where the scratch disks are */
  readonly directory: string;
  /** An empty ext4 of the configured size, as an overlay on the shared base. Undone by `removeScratch`. */
  createScratch(sandboxId: string, ownerUid: number, signal: AbortSignal): Promise<ScratchDisk>;
  /** Idempotent. */
  removeScratch(sandboxId: string): Promise<void>;
  /** Bytes on disk and files of all pods' scratch disks. */
  usage(): Promise<{ readonly mountpoint: string; readonly usedBytes: number; readonly inodesUsed: number }>;
}
