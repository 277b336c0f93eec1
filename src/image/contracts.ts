/** The image port: pulls, converts, keeps and describes OCI images. Layers are EROFS files shared by all pods. */

export interface ImageLayer {
  /** `sha256:<hex>` of the uncompressed tar */
  readonly diffId: string;
  /** the EROFS file on the host */
  readonly path: string;
  readonly sizeBytes: number;
}

/** The part of the OCI image config that running a container needs. All of it is hostile input. */
export interface ImageConfig {
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly volumes: readonly string[];
  readonly stopSignal: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Image {
  /** `sha256:<hex>` of the image config: CRI's Image.id and image_ref */
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  /** bytes on disk of everything the image refers to, shared layers included */
  readonly sizeBytes: number;
  /** bottom first, never empty */
  readonly layers: readonly ImageLayer[];
  readonly config: ImageConfig;
  readonly pinned: boolean;
}

export interface RegistryAuth {
  readonly username?: string;
  readonly password?: string;
  /** base64 of `user:password` */
  readonly auth?: string;
  readonly identityToken?: string;
  readonly registryToken?: string;
}

export interface FsUsage {
  /** a directory that exists on the host */
  readonly mountpoint: string;
  readonly usedBytes: number;
  readonly inodesUsed: number;
}

export interface ImagePort extends AsyncDisposable {
  /** Pulls and converts; joins a pull of the same reference and credentials that is under way. */
  pull(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Image>;
  /** Takes an OCI layout, a directory or a tar of one; returns what it held. Names come from its annotations. */
  load(path: string, signal: AbortSignal): Promise<readonly Image[]>;
  /** By id, unambiguous id prefix, tag, digest or untagged name; answers from memory. */
  find(reference: string): Image | undefined;
  list(): readonly Image[];
  /** Removes the image with all its names, however it was named. Unknown images are no error. */
  remove(reference: string): Promise<void>;
  /** Keeps the layers of an image on disk until the returned handle is disposed, even if the image is removed. */
  hold(imageId: string): Disposable;
  usage(): Promise<FsUsage>;
}
