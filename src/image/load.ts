import { createWriteStream } from 'node:fs';
import { mkdir, stat, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import { CaissonError, describeError, isErrno } from '../lib/errors.ts';
import type { Context } from './context.ts';
import { openDecompressed } from './decompress.ts';
import { withWorkDirectory } from './disk.ts';
import { ingest } from './ingest.ts';
import { readLayout, type LayoutEntry } from './manifest.ts';
import type { ImageRecord, Names } from './record.ts';
import { formatReference, parse } from './reference.ts';

/**
 * Stores the images of an OCI layout: a directory, or a tar of one that may be compressed.
 * Throws `not_found` when there is nothing at `path`, `invalid_argument` when it is something else.
 */
export async function loadImages(context: Context, path: string, signal: AbortSignal): Promise<ImageRecord[]> {
  return withWorkDirectory(context.disk, async (temporary) => {
    const layout = join(temporary, 'in'); // skopeo's syntax has no place for a path with a colon
    if (await isDirectory(path)) await symlink(resolve(path), layout);
    else await unpackLayout(path, layout, signal);
    const entries = await readLayout(layout);
    const loaded = [];
    for (const [index, entry] of entries.entries()) {
      const { signature_policy: policy } = context.config;
      const options = { home: context.disk.home, policy, temporary, image: `${path} (${entry.digest})`, signal };
      using ingested = await ingest(context, `oci:${layout}:@${index}`, options);
      loaded.push(context.put({ ...ingested.record, ...namesOf(entry, context) }));
    }
    const ids = new Set(loaded.map(({ id }) => id));
    return [...ids].flatMap((id) => context.records.get(id) ?? []);
  });
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw new CaissonError('not_found', `there is no image at ${path}`, { cause: error });
    throw error;
  }
}

const LAYOUT_FILE = /^(?:\.\/)?(oci-layout|index\.json|blobs\/sha256\/[0-9a-f]{64})$/;

/** Takes the files that a layout has, all of them regular, and nothing else: no path of the archive is trusted. */
async function unpackLayout(path: string, layout: string, signal: AbortSignal): Promise<void> {
  await mkdir(join(layout, 'blobs', 'sha256'), { recursive: true });
  const archive = extract();
  const unpacked = pipeline(await openDecompressed(path), archive, { signal });
  try {
    for await (const entry of archive) {
      const name = LAYOUT_FILE.exec(entry.header.name)?.[1];
      if (name === undefined || entry.header.type !== 'file') entry.resume();
      else await pipeline(entry, createWriteStream(join(layout, name)), { signal });
    }
    await unpacked;
  } catch (error) {
    await Promise.allSettled([unpacked]);
    if (signal.aborted || isErrno(error, 'ENOSPC')) throw error;
    const message = `${path} is not a tar archive of an OCI image layout: ${describeError(error)}`;
    throw new CaissonError('invalid_argument', message, { cause: error });
  }
}

/** containerd's annotation holds the full name; the OCI one often a bare tag, which names no image. */
function namesOf({ annotations, digest }: LayoutEntry, { log }: Context): Names {
  const spelled = annotations['org.opencontainers.image.ref.name'];
  const name = annotations['io.containerd.image.name'] ?? (spelled && /[:/]/.test(spelled) ? spelled : undefined);
  const reference = name === undefined ? undefined : parse(name);
  if (name !== undefined && !reference)
    log.warn({ name, digest }, 'loaded an image without its name, which is invalid');
  if (!reference) return { repoTags: [], repoDigests: [] };
  const full = formatReference(reference);
  return reference.digest === undefined ? { repoTags: [full], repoDigests: [] } : { repoTags: [], repoDigests: [full] };
}
