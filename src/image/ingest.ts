import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from '../lib/files.ts';
import { newId } from '../lib/ids.ts';
import type { Context } from './context.ts';
import { blobPath, bytesOnDisk, hexOf, layerPath, linkFiles } from './disk.ts';
import { convertLayer } from './layer.ts';
import { describeImage, readLayout, type Description } from './manifest.ts';
import type { ImageRecord, Names } from './record.ts';
import { copyImage, type SkopeoOptions } from './skopeo.ts';

/** An image whose files are all there. Once it is disposed they may be collected, unless a record names them. */
export interface Ingested extends Disposable {
  readonly record: Omit<ImageRecord, keyof Names>;
}

/**
 * Copies an image from `source`, in skopeo's spelling, and converts the layers that are not there yet.
 * skopeo works in a directory of its own that shares the known blobs: nothing half-made gets to the store, and nothing
 * it counts on is collected meanwhile.
 */
export async function ingest(context: Context, source: string, options: SkopeoOptions): Promise<Ingested> {
  const { disk } = context;
  const directory = join(options.temporary, newId());
  const [layout, shared] = [join(directory, 'layout'), join(directory, 'blobs')];
  const blobs = join(shared, 'sha256');
  await mkdir(blobs, { recursive: true });
  await linkFiles(disk.blobs, blobs, await readdir(disk.blobs));
  await copyImage(source, layout, shared, options);
  const [copied] = await readLayout(layout);
  const description = await describeImage(blobs, copied?.digest ?? '', options.image);
  const digests = blobDigests(description);
  const claim = context.claims.add([...digests, ...description.layers.map(({ diffId }) => diffId)]);
  try {
    await linkFiles(blobs, disk.blobs, digests.map(hexOf));
    for (const layer of description.layers) await ensureLayer(context, layer, options);
    return { record: await makeRecord(context, description), [Symbol.dispose]: () => claim[Symbol.dispose]() };
  } catch (error) {
    claim[Symbol.dispose]();
    throw error;
  }
}

async function ensureLayer(context: Context, layer: Description['layers'][number], options: SkopeoOptions) {
  const { disk, claims, converting, converterUid: uid } = context;
  const { diffId } = layer;
  await context.conversions.join(diffId, options.signal, async (signal) => {
    // the caller that started this may be gone before the others
    using _claim = claims.add([diffId, layer.blobDigest]);
    const target = layerPath(disk, diffId);
    if (await exists(target)) return;
    const blob = blobPath(disk, layer.blobDigest);
    const job = { blob, image: options.image, diffId, target, temporary: disk.temporary, uid };
    await converting.run(() => convertLayer(job, signal));
  });
}

async function makeRecord({ disk }: Context, description: Description): Promise<Ingested['record']> {
  const layers = [];
  for (const { diffId, blobDigest } of description.layers) {
    const { size } = await stat(layerPath(disk, diffId));
    layers.push({ diffId, blobDigest, sizeBytes: size });
  }
  const files = new Set([
    ...layers.map(({ diffId }) => layerPath(disk, diffId)),
    ...blobDigests(description).map((digest) => blobPath(disk, digest)),
  ]);
  const { configDigest: id, manifestDigest, config } = description;
  return { version: 1, id, manifestDigest, layers, sizeBytes: await bytesOnDisk(files), config };
}

function blobDigests({ manifestDigest, configDigest, layers }: Description): string[] {
  return [manifestDigest, configDigest, ...layers.map(({ blobDigest }) => blobDigest)];
}
