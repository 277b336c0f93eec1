import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CaissonError, isCaissonError } from '../lib/errors.ts';
import type { ImageConfig } from './contracts.ts';

/** What a manifest and its config say; strangers wrote both. */
export interface Description {
  readonly manifestDigest: string;
  /** the image's id */
  readonly configDigest: string;
  /** bottom first, as they are to be stacked; no diff id twice */
  readonly layers: readonly { readonly blobDigest: string; readonly diffId: string }[];
  readonly config: ImageConfig;
}

/** One image of an OCI layout. */
export interface LayoutEntry {
  readonly digest: string;
  readonly annotations: Readonly<Record<string, string>>;
}

const MAX_JSON_BYTES = 4 * 1024 * 1024;
const MAX_LAYERS = 500; // overlayfs stacks no more

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'not a sha256 digest');
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '');
const texts = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? []);
const stringMap = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});

const indexSchema = z.object({
  manifests: z
    .array(z.object({ digest, annotations: stringMap }))
    .nullish()
    .transform((value) => value ?? []),
});

const manifestSchema = z.object({
  config: z.object({ digest }),
  layers: z
    .array(z.object({ digest, mediaType: text }))
    .max(MAX_LAYERS)
    .nullish()
    .transform((value) => value ?? []),
});

const configSchema = z.object({
  architecture: text,
  os: text,
  rootfs: z
    .object({
      diff_ids: z
        .array(digest)
        .nullish()
        .transform((value) => value ?? []),
    })
    .nullish(),
  config: z
    .object({
      User: text,
      Env: texts,
      Entrypoint: texts,
      Cmd: texts,
      WorkingDir: text,
      Volumes: z
        .record(z.string(), z.unknown())
        .nullish()
        .transform((value) => Object.keys(value ?? {})),
      StopSignal: text,
      Labels: stringMap,
    })
    .nullish(),
});

/** The images that an OCI layout lists. Throws `invalid_argument` when `layout` is no such directory. */
export async function readLayout(layout: string): Promise<LayoutEntry[]> {
  try {
    return parseJson(indexSchema, await readBounded(join(layout, 'index.json')), 'index').manifests;
  } catch (error) {
    throw new CaissonError('invalid_argument', `${layout} is not an OCI image layout`, { cause: error });
  }
}

/**
 * Reads an image from a directory of blobs; `image` is its name for errors.
 * Throws `failed_precondition` for what is malformed or cannot be run here.
 */
export async function describeImage(blobs: string, manifestDigest: string, image: string): Promise<Description> {
  try {
    return await describe(blobs, manifestDigest);
  } catch (error) {
    if (!isCaissonError(error)) throw error;
    throw new CaissonError(error.code, `image ${image} ${error.message}`, { cause: error, hint: error.hint });
  }
}

/** The messages of its errors lack their subject. */
async function describe(blobs: string, manifestDigest: string): Promise<Description> {
  const manifest = parseJson(manifestSchema, await readBlob(blobs, manifestDigest), 'manifest');
  const foreign = manifest.layers.find(({ mediaType }) => mediaType !== '' && !mediaType.includes('tar'));
  if (foreign) throw refused(`is not a container image: it holds ${foreign.mediaType.slice(0, 100)}`);
  const config = parseJson(configSchema, await readBlob(blobs, manifest.config.digest), 'config');
  const diffIds = config.rootfs?.diff_ids ?? [];
  if (manifest.layers.length === 0) throw refused('has no layers: there is nothing to run');
  if (diffIds.length !== manifest.layers.length) {
    throw refused(`has ${manifest.layers.length} layers but its config lists ${diffIds.length}`);
  }
  checkPlatform(config);
  const layers = manifest.layers.map((layer, index) => ({ blobDigest: layer.digest, diffId: diffIds[index] ?? '' }));
  return {
    manifestDigest,
    configDigest: manifest.config.digest,
    layers: withoutRepetition(layers),
    config: imageConfig(config.config),
  };
}

function imageConfig(config: z.infer<typeof configSchema>['config']): ImageConfig {
  return {
    user: config?.User ?? '',
    env: config?.Env ?? [],
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    workingDir: config?.WorkingDir ?? '',
    volumes: config?.Volumes ?? [],
    stopSignal: config?.StopSignal ?? '',
    labels: config?.Labels ?? {},
  };
}

/** overlayfs refuses a layer that is stacked twice; its topmost place alone gives the same files. */
function withoutRepetition<T extends { readonly diffId: string }>(layers: readonly T[]): T[] {
  return layers.filter(({ diffId }, index) => layers.findLastIndex((layer) => layer.diffId === diffId) === index);
}

const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64' };

function checkPlatform({ os, architecture }: { os: string; architecture: string }): void {
  const own = ARCHITECTURES[process.arch] ?? process.arch;
  const isOurs = (os === '' || os === 'linux') && (architecture === '' || architecture === own);
  if (!isOurs) throw refused(`is made for ${os}/${architecture}, this node runs linux/${own}`);
}

async function readBlob(blobs: string, blobDigest: string): Promise<Buffer> {
  const data = await readBounded(join(blobs, blobDigest.slice('sha256:'.length)));
  if (`sha256:${createHash('sha256').update(data).digest('hex')}` !== blobDigest) {
    throw refused(`has a corrupt blob ${blobDigest}`);
  }
  return data;
}

async function readBounded(path: string): Promise<Buffer> {
  const { size } = await stat(path);
  if (size > MAX_JSON_BYTES) throw refused(`has a JSON document of ${size} bytes, more than ${MAX_JSON_BYTES}`);
  return readFile(path);
}

function parseJson<T>(schema: z.ZodType<T>, data: Buffer, what: string): T {
  try {
    return schema.parse(JSON.parse(data.toString('utf8')));
  } catch (error) {
    const reason = error instanceof z.ZodError ? z.prettifyError(error).replaceAll(/\s+/g, ' ') : 'it is not JSON';
    throw refused(`has an invalid ${what}: ${reason.slice(0, 300)}`);
  }
}

function refused(reason: string): CaissonError {
  return new CaissonError('failed_precondition', reason);
}
