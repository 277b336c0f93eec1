import { createHash } from 'node:crypto';
import { chmod, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { exists, syncDirectory } from '../lib/files.ts';
import { createOverlay } from './qemu-img.ts';

/**
 * No journal, no checksums: a scratch disk never outlives its VM, so there is nothing to recover, and nothing to find out
 * about a medium. Prezeroed: the file is sparse, and
 * a guest that believed otherwise would write all inode tables to its overlay in the background.
 */
const FEATURES = ['-m', '0', '-O', '^has_journal,^resize_inode,^metadata_csum'];
const EXTENDED = 'assume_storage_prezeroed=1,root_owner=0:0';
/** for e2fsprogs before 1.47 */
const EXTENDED_OLD = 'lazy_itable_init=1,root_owner=0:0';
const MKFS_TIMEOUT_MS = 120_000;

const BASE_FILE = /^base-[0-9a-f]{12}\.ext4$/;
const BLANK = '.blank';
const UNFINISHED = /\.new$/;
/** bytes of a qcow2 header up to the end of the backing file's name, which may be 1023 bytes long */
const HEADER_BYTES = 8192;

/** The file name of the base for this size: another size or other options have another name. */
export function baseName(sizeMib: number): string {
  const hash = createHash('sha256').update(JSON.stringify([sizeMib, FEATURES, EXTENDED]));
  return `base-${hash.digest('hex').slice(0, 12)}.ext4`;
}

/** Makes the formatted base file unless it exists, all or nothing, readable by every VM and writable by none. */
export async function ensureBase(directory: string, sizeMib: number): Promise<string> {
  const path = join(directory, baseName(sizeMib));
  if (await exists(path)) return path;
  const temporary = `${path}.new`;
  try {
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.truncate(sizeMib * 1024 * 1024);
    } finally {
      await file.close();
    }
    await format(temporary);
    await sync(temporary);
    await chmod(temporary, 0o444);
    await rename(temporary, path);
    await syncDirectory(directory);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return path;
}

async function format(path: string): Promise<void> {
  const mkfs = async (extended: string): Promise<unknown> =>
    run('mkfs.ext4', ['-q', '-F', ...FEATURES, '-E', extended, path], {
      timeoutMs: MKFS_TIMEOUT_MS,
      installHint: 'apt install e2fsprogs',
    });
  try {
    await mkfs(EXTENDED);
  } catch (error) {
    if (!describeError(error).includes('Bad option')) throw error;
    await mkfs(EXTENDED_OLD);
  }
}

async function sync(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** An overlay that nothing has written to, of which every new disk is a copy. */
export async function ensureBlank(base: string): Promise<string> {
  const path = `${base}${BLANK}`;
  if (await exists(path)) return path;
  await createOverlay(`${path}.new`, base);
  await chmod(`${path}.new`, 0o600);
  await rename(`${path}.new`, path);
  return path;
}

/**
 * Removes bases of former configurations that no overlay needs any more, what a crash left unfinished, and the blank overlays:
 * they name their base by a path that may not be what it was.
 */
export async function removeOldBases(directory: string, current: string): Promise<void> {
  const names = await readdir(directory);
  const overlays = names.filter((name) => name.endsWith('.qcow2'));
  const needed = new Set(await Promise.all(overlays.map((name) => backingFile(join(directory, name)))));
  for (const name of names) {
    const path = join(directory, name);
    const old = BASE_FILE.test(name) && path !== current && !needed.has(path);
    if (old || UNFINISHED.test(name) || name.endsWith(BLANK)) await rm(path, { force: true });
  }
}

/**
 * The backing file that a qcow2 header names. Its VM may have written the header: the answer only ever keeps a file
 * from being removed.
 */
async function backingFile(path: string): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    if (bytesRead < 20) return undefined;
    const offset = Number(buffer.readBigUInt64BE(8));
    return buffer.toString('utf8', offset, offset + Math.min(buffer.readUInt32BE(16), 1023));
  } finally {
    await file.close();
  }
}
