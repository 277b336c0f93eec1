import { createHash } from 'node:crypto';
import { chown, mkdir, open, rename, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PassThrough, type Writable } from 'node:stream';
import { pack } from 'tar-stream';
import { CaissonError, describeError, isCaissonError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { removeTree, syncDirectory } from '../lib/files.ts';
import { newId } from '../lib/ids.ts';
import { openDecompressed } from './decompress.ts';
import { tarGuard, type TarSummary } from './tar-guard.ts';

export interface LayerJob {
  /** the layer as the registry has it: a tar, maybe compressed */
  readonly blob: string;
  /** the image as errors name it */
  readonly image: string;
  /** `sha256:<hex>` that the uncompressed tar must have */
  readonly diffId: string;
  /** where the EROFS file appears when it is complete */
  readonly target: string;
  /** a directory of the same file system */
  readonly temporary: string;
  /** mkfs.erofs parses what strangers wrote: it runs as this user and group, who own nothing else */
  readonly uid: number;
}

const MAX_LAYER_BYTES = 64 * 1024 ** 3;
const BLOCK = 512;
const MKFS_MEMORY_BYTES = 4 * 1024 ** 3;
/** with less than this left when mkfs.erofs has failed, that was why */
const FULL_DISK_BYTES = 1024 * 1024;
const MKFS_CPU_SECONDS = 600; // 64 GiB take 2 minutes

/**
 * Makes the EROFS file of one layer. Throws `failed_precondition` when the blob is corrupt or hostile,
 * `resource_exhausted` when the disk is full or the layer absurdly large, `cancelled` on abort.
 */
export async function convertLayer(job: LayerJob, signal: AbortSignal): Promise<void> {
  const directory = join(job.temporary, `layer-${newId()}`);
  await mkdir(directory, { mode: 0o711 });
  try {
    const file = join(directory, 'layer.erofs');
    // the user may write the file but not the directory: nobody can swap it for a link before we take it over
    await (await open(file, 'wx', 0o600)).close();
    await chown(file, job.uid, job.uid);
    await fill(directory, job, signal);
    await takeOver(file);
    await rename(file, job.target);
    await syncDirectory(dirname(job.target));
  } catch (error) {
    throw asLayerError(error, `layer ${job.diffId} of image ${job.image}`);
  } finally {
    await removeTree(directory);
  }
}

async function takeOver(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.chown(0, 0);
    await file.chmod(0o644);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function fill(directory: string, job: LayerJob, signal: AbortSignal): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const tar = new PassThrough();
  tar.on('error', () => undefined); // its writer and mkfs.erofs both report
  const written = mkfs(directory, job, tar, either);
  const checked = copyChecked(job, tar, either);
  either.addEventListener('abort', () => tar.destroy());
  // whichever fails ends the other: mkfs.erofs spins for ever on a tar that ends early
  checked.catch(() => failed.abort());
  // a reader content with less lets the rest go to nobody
  written.then(() => tar.resume()).catch(() => failed.abort());
  const [content, output] = await Promise.allSettled([checked, written]);
  if (content.status === 'rejected' && !isAbort(content.reason)) throw content.reason;
  if (output.status === 'rejected') throw output.reason;
  if (content.status === 'rejected') throw content.reason;
}

async function mkfs(directory: string, job: LayerJob, tar: PassThrough, signal: AbortSignal): Promise<void> {
  const bounds = [`--as=${MKFS_MEMORY_BYTES}`, `--cpu=${MKFS_CPU_SECONDS}`, '--core=0', '--nofile=64'];
  const user = [`--reuid=${job.uid}`, `--regid=${job.uid}`, '--clear-groups', '--no-new-privs'];
  // the same layer gives the same file: fixed time of making (not of the files), identifier from the content
  const format = ['-b4096', '-T0', '--mkfs-time', '-U', uuidOf(job.diffId), '--tar=f', '--aufs', '--quiet'];
  const program = ['setpriv', ...user, 'mkfs.erofs', ...format, 'layer.erofs'];
  const options = {
    cwd: directory, // by a relative name the user needs no way through our directories
    stdin: tar,
    signal,
    installHint: 'apt-get install erofs-utils util-linux',
  };
  await run('prlimit', [...bounds, ...program], options).catch(async (error: unknown) => {
    // on a full disk it loses its place in the tar and speaks of checksums
    const isOurDisk = isCaissonError(error, 'internal') && (await freeBytes(directory)) < FULL_DISK_BYTES;
    throw isOurDisk ? new CaissonError('resource_exhausted', 'no space left', { cause: error }) : error;
  });
}

async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

function uuidOf(diffId: string): string {
  const hex = diffId.slice('sha256:'.length);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-');
}

/** Sends the tar on while checking it; its end goes out only once all of it has been found good. */
async function copyChecked(job: LayerJob, out: PassThrough, signal: AbortSignal): Promise<void> {
  const hash = createHash('sha256');
  const guard = tarGuard();
  let total = 0;
  let sent = 0;
  const send = async (data: Buffer): Promise<void> => {
    sent += data.length;
    await write(out, data);
  };
  try {
    for await (const chunk of await openDecompressed(job.blob)) {
      const data = chunk as Buffer;
      signal.throwIfAborted();
      const before = total;
      total += data.length;
      if (total > MAX_LAYER_BYTES) throw tooLarge();
      hash.update(data);
      await guard.write(data);
      // zeros may be the archive's end: held back until something follows
      const length = usedLength(data);
      if (length === 0) continue;
      await sendZeros(before - sent, send);
      await send(data.subarray(0, length));
    }
    const summary = await guard.finish();
    const digest = `sha256:${hash.digest('hex')}`;
    if (digest !== job.diffId)
      throw new CaissonError('failed_precondition', `its content is corrupt: it has ${digest}`);
    await sendZeros(Math.max(summary.endOffset, roundUp(sent)) - sent, send);
    await sendEnd(summary, send);
    out.end();
  } catch (error) {
    out.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}

/** Directories that the archive forgot, then its end. mkfs.erofs would give such directories mode 0777. */
async function sendEnd(summary: TarSummary, send: (data: Buffer) => Promise<void>): Promise<void> {
  const directories = pack();
  for (const name of summary.missingDirectories) {
    directories.entry({ name, type: 'directory', mode: 0o755, mtime: new Date(0) });
  }
  directories.finalize();
  for await (const chunk of directories) await send(chunk as Buffer);
}

async function sendZeros(count: number, send: (data: Buffer) => Promise<void>): Promise<void> {
  const zeros = Buffer.alloc(Math.min(count, 64 * 1024));
  for (let left = count; left > 0; left -= zeros.length) await send(zeros.subarray(0, left));
}

/** Waits until there is room. A reader that has gone is no error here: it says itself why. */
async function write(out: Writable, data: Buffer): Promise<void> {
  if (out.destroyed || out.write(data)) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const events = ['drain', 'close'];
  for (const event of events) out.on(event, resolve);
  await promise;
  for (const event of events) out.off(event, resolve);
}

function usedLength(data: Buffer): number {
  let length = data.length;
  while (length > 0 && data[length - 1] === 0) length--;
  return length;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

function tooLarge(): CaissonError {
  return new CaissonError('resource_exhausted', `it is larger than ${MAX_LAYER_BYTES / 1024 ** 3} GiB uncompressed`);
}

function asLayerError(error: unknown, layer: string): CaissonError {
  const said = describeError(error);
  if (/no space left|ENOSPC/i.test(said)) {
    return new CaissonError('resource_exhausted', `the disk is full, so ${layer} cannot be stored`, {
      cause: error,
      hint: 'free space, or remove images that nobody needs',
    });
  }
  if (isAbort(error)) {
    return new CaissonError('cancelled', `the conversion of ${layer} was cancelled`, { cause: error });
  }
  if (isCaissonError(error, 'internal') || !isCaissonError(error)) {
    // zlib's errors and those of mkfs.erofs: both choked on the content
    return new CaissonError('failed_precondition', `${layer} cannot be used: ${said}`, { cause: error });
  }
  return new CaissonError(error.code, `${layer} cannot be used: ${error.message}`, { cause: error, hint: error.hint });
}

function isAbort(error: unknown): boolean {
  return isCaissonError(error, 'cancelled') || (error instanceof Error && error.name === 'AbortError');
}
