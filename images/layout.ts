import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack, type Header } from 'tar-stream';

/** Makes small OCI layouts of files in memory, good and hostile ones. No registry, no network. */

export type TarEntry = Partial<Header> & { readonly name: string; readonly content?: string | Buffer };

export interface LayerSpec {
  /** an array is packed as it is, whatever it holds; a Buffer is taken for the uncompressed tar */
  readonly content: readonly TarEntry[] | Buffer;
  /** gzip if left out */
  readonly compression?: Compression;
  /** what the config claims instead of the truth */
  readonly diffId?: string;
}

export type Compression = 'none' | 'gzip' | 'zstd';

export interface ImageSpec {
  readonly layers: readonly LayerSpec[];
  /** the OCI config's `config`: Cmd, Env, User, ... */
  readonly config?: Readonly<Record<string, unknown>>;
  /** becomes the annotation io.containerd.image.name */
  readonly name?: string;
  /** amd64 if left out */
  readonly architecture?: string;
  /** annotations of the layout's entry */
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface WrittenImage {
  readonly manifestDigest: string;
  readonly configDigest: string;
  readonly layers: readonly { readonly blobDigest: string; readonly diffId: string }[];
}

const OCI = 'application/vnd.oci.image';
const SUFFIX: Readonly<Record<Compression, string>> = { none: '', gzip: '+gzip', zstd: '+zstd' };

/** A tar of these entries; files if they do not say otherwise. */
export async function makeTar(entries: readonly TarEntry[]): Promise<Buffer> {
  const tar = pack();
  for (const { content = '', ...header } of entries) {
    tar.entry(
      { mtime: new Date(1_000_000_000_000), mode: header.type === 'directory' ? 0o755 : 0o644, ...header },
      content,
    );
  }
  tar.finalize();
  return buffer(tar as AsyncIterable<Buffer>);
}

/** Writes an OCI layout that lists these images; makes the directory. */
export async function writeLayout(directory: string, images: readonly ImageSpec[]): Promise<WrittenImage[]> {
  const written = [];
  for (const image of images) written.push(await writeImage(directory, image));
  await writeIndexFile(
    directory,
    written.map(({ descriptor }) => descriptor),
  );
  return written;
}

/** Writes an OCI layout with one image for several platforms; returns the digest of their index too. */
export async function writeMultiPlatformLayout(directory: string, images: readonly ImageSpec[]) {
  const written = [];
  for (const image of images) written.push(await writeImage(directory, image));
  const manifests = written.map(({ descriptor }) => descriptor);
  const index = await writeJson(directory, { schemaVersion: 2, mediaType: `${OCI}.index.v1+json`, manifests });
  await writeIndexFile(directory, [{ mediaType: `${OCI}.index.v1+json`, ...index }]);
  return { indexDigest: index.digest, images: written };
}

async function writeIndexFile(directory: string, manifests: readonly object[]): Promise<void> {
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
}

async function writeImage(directory: string, image: ImageSpec): Promise<WrittenImage & { descriptor: object }> {
  const architecture = image.architecture ?? 'amd64';
  const layers = [];
  for (const layer of image.layers) layers.push(await writeLayer(directory, layer));
  const config = await writeJson(directory, {
    architecture,
    os: 'linux',
    config: image.config ?? {},
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = await writeJson(directory, {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: { mediaType: `${OCI}.config.v1+json`, ...config },
    layers: layers.map(({ descriptor }) => descriptor),
  });
  const annotations = { ...(image.name && { 'io.containerd.image.name': image.name }), ...image.annotations };
  const platform = { os: 'linux', architecture };
  return {
    manifestDigest: manifest.digest,
    configDigest: config.digest,
    layers: layers.map(({ descriptor, diffId }) => ({ blobDigest: descriptor.digest, diffId })),
    descriptor: { mediaType: `${OCI}.manifest.v1+json`, ...manifest, annotations, platform },
  };
}

async function writeLayer(directory: string, layer: LayerSpec) {
  const tar = Buffer.isBuffer(layer.content) ? layer.content : await makeTar(layer.content);
  const compression = layer.compression ?? 'gzip';
  const blob = compression === 'none' ? tar : compression === 'gzip' ? gzipSync(tar) : zstdCompressSync(tar);
  const mediaType = `${OCI}.layer.v1.tar${SUFFIX[compression]}`;
  return { descriptor: { mediaType, ...(await writeBlob(directory, blob)) }, diffId: layer.diffId ?? sha256(tar) };
}

async function writeJson(directory: string, value: object) {
  return writeBlob(directory, Buffer.from(JSON.stringify(value)));
}

async function writeBlob(directory: string, data: Buffer): Promise<{ digest: string; size: number }> {
  const digest = sha256(data);
  const blobs = join(directory, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  await writeFile(join(blobs, digest.slice('sha256:'.length)), data);
  return { digest, size: data.length };
}

/** `sha256:<hex>` */
export function sha256(data: string | Buffer): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}
