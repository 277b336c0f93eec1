import { chmod, chown, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { KeyedMutex } from '../lib/async.ts';
import { CaissonError, describeError, isErrno } from '../lib/errors.ts';
import { ignoreMissing } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import { traced } from '../lib/trace.ts';
import { ensureBase, removeOldBases } from './base.ts';
import type { ScratchDisk, StoragePort } from './contracts.ts';
import { createOverlay } from './qemu-img.ts';

export interface StorageOptions {
  /** the scratch disks are in `scratch` below it; each VM's user must be able to traverse it */
  readonly root: string;
  readonly config: Pick<Config['storage'], 'scratch_size_mib'>;
  readonly log: Logger;
}

const OVERLAY = '.qcow2';

/**
 * Makes the formatted base disk if need be. Throws `failed_precondition` when mkfs.ext4 is missing and
 * `resource_exhausted` when the disk is full.
 */
export async function openStorage({ root, config, log }: StorageOptions): Promise<StoragePort> {
  const directory = join(root, 'scratch');
  const mutex = new KeyedMutex();
  const base = async (): Promise<string> => mutex.run('base', () => ensureBase(directory, config.scratch_size_mib));
  const pathOf = (sandboxId: string): string => join(directory, `${checkId(sandboxId)}${OVERLAY}`);

  try {
    await mkdir(directory, { recursive: true, mode: 0o711 });
    await chmod(directory, 0o711); // to be reached by the VMs' users and not to be listed
    await removeOldBases(directory, await base());
  } catch (error) {
    throw explain(error, directory, 'cannot set up the scratch disks');
  }
  log.debug({ directory }, 'scratch disk base is ready');

  return {
    directory,
    createScratch: async (sandboxId, ownerUid, signal) => {
      const path = pathOf(sandboxId);
      try {
        return await traced('storage: scratch disk', async () => createDisk(path, await base(), ownerUid, signal));
      } catch (error) {
        throw explain(error, directory, `cannot make the scratch disk of sandbox ${sandboxId}`);
      }
    },
    removeScratch: async (sandboxId) => rm(pathOf(sandboxId), { force: true }),
    usage: async () => usage(directory),
  };
}

/** Throws `already_exists` if the sandbox has one; leaves nothing behind on any other error. */
async function createDisk(path: string, base: string, ownerUid: number, signal: AbortSignal): Promise<ScratchDisk> {
  // made here first, because qemu-img would make it readable by everybody for a moment
  const file = await open(path, 'wx', 0o600);
  await file.close();
  try {
    await createOverlay(path, base, signal);
    await chown(path, ownerUid, ownerUid);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
  return { path, format: 'qcow2' };
}

async function usage(directory: string): Promise<{ mountpoint: string; usedBytes: number; inodesUsed: number }> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(OVERLAY));
  // one may be removed while we look
  const stats = await Promise.all(names.map((name) => stat(join(directory, name)).catch(ignoreMissing(undefined))));
  const present = stats.filter((entry) => entry !== undefined);
  const usedBytes = present.reduce((sum, { blocks }) => sum + blocks * 512, 0);
  return { mountpoint: directory, usedBytes, inodesUsed: present.length };
}

/** Says which directory is full; errors that say enough pass as they are. */
function explain(error: unknown, directory: string, what: string): unknown {
  const text = describeError(error);
  const full = isErrno(error, 'ENOSPC') || isErrno(error, 'EDQUOT') || /No space left|Disk quota/.test(text);
  if (full) {
    const hint = `make room in ${directory}`;
    return new CaissonError('resource_exhausted', `${what}: ${directory} is full`, { cause: error, hint });
  }
  if (isErrno(error, 'EEXIST')) return new CaissonError('already_exists', `${what}: it exists`, { cause: error });
  if (error instanceof CaissonError) {
    return new CaissonError(error.code, `${what}: ${error.message}`, { cause: error, hint: error.hint });
  }
  return new CaissonError('internal', `${what}: ${text}`, { cause: error });
}

/** The id becomes a file name. */
function checkId(sandboxId: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(sandboxId)) return sandboxId;
  throw new CaissonError('invalid_argument', `sandbox id ${JSON.stringify(sandboxId)} is not letters and digits`);
}
