import { stat } from 'node:fs/promises';
import type { Collection } from '../state/contracts.ts';
import { ignoreMissing } from '../lib/files.ts';
import type { Image, ImageConfig } from './contracts.ts';
import { layerPath, type Disk } from './disk.ts';
import { formatReference, parse } from './reference.ts';

/** An image as the store keeps it; the record's id and name are the image's id. */
export interface ImageRecord {
  readonly version: 1;
  /** digest of the config */
  readonly id: string;
  readonly manifestDigest: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  /** bottom first; `sizeBytes` is the length of the EROFS file */
  readonly layers: readonly { readonly diffId: string; readonly blobDigest: string; readonly sizeBytes: number }[];
  /** on disk */
  readonly sizeBytes: number;
  readonly config: ImageConfig;
  /** the signature policy that let it in; undefined: not pulled, or by an earlier version */
  readonly policy?: string;
}

export type Names = Pick<ImageRecord, 'repoTags' | 'repoDigests'>;

/** What the image keeps from being collected. */
export function digestsOf(record: ImageRecord): string[] {
  const layers = record.layers.flatMap(({ diffId, blobDigest }) => [diffId, blobDigest]);
  return [record.id, record.manifestDigest, ...layers];
}

/** `pinned`: as the configuration has it. */
export function toImage(record: ImageRecord, disk: Disk, pinned: readonly string[]): Image {
  const { id, repoTags, repoDigests, sizeBytes, config } = record;
  const layers = record.layers.map(({ diffId, sizeBytes: size }) => ({
    diffId,
    path: layerPath(disk, diffId),
    sizeBytes: size,
  }));
  return { id, repoTags, repoDigests, sizeBytes, layers, config, pinned: isPinned(record, pinned) };
}

function isPinned({ repoTags, repoDigests }: Names, pinned: readonly string[]): boolean {
  const names = [...repoTags, ...repoDigests];
  return pinned.some((wanted) => {
    if (wanted.endsWith('*')) return names.some((name) => name.startsWith(wanted.slice(0, -1)));
    const reference = parse(wanted);
    return reference !== undefined && names.includes(formatReference(reference));
  });
}

/** The diff id of a layer whose file is missing or has another size than it had. */
export async function damagedLayer(record: ImageRecord, disk: Disk): Promise<string | undefined> {
  for (const { diffId, sizeBytes } of record.layers) {
    const size = await stat(layerPath(disk, diffId)).then((found) => found.size, ignoreMissing(-1));
    if (size !== sizeBytes) return diffId;
  }
  return undefined;
}

/** Stores an image under these names, on top of those it has, and takes their tags off other images. */
export function putRecord(collection: Collection<ImageRecord>, records: Map<string, ImageRecord>, added: ImageRecord) {
  for (const other of records.values()) {
    const repoTags = other.repoTags.filter((tag) => !added.repoTags.includes(tag));
    if (other.id === added.id || repoTags.length === other.repoTags.length) continue;
    const rest = { ...other, repoTags };
    collection.update(other.id, rest);
    records.set(other.id, rest);
  }
  const known = records.get(added.id);
  const record = {
    ...added,
    repoTags: union(known?.repoTags, added.repoTags),
    repoDigests: union(known?.repoDigests, added.repoDigests),
  };
  if (known) collection.update(record.id, record);
  else collection.insert(record.id, record.id, record);
  records.set(record.id, record);
  return record;
}

function union(known: readonly string[] = [], added: readonly string[]): string[] {
  return [...new Set([...known, ...added])];
}
