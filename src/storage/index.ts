import { chmod, chown, constants, copyFile, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { KeyedMutex, orAborted } from '../lib/async.ts';
import { CaissonError, describeError, isErrno } from '../lib/errors.ts';
import { ignoreMissing } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import { traced } from '../lib/trace.ts';
import { baseName, ensureBase, ensureBlank, removeOldBases } from './base.ts';
import type { StoragePort } from './contracts.ts';
import { createCopy } from './qemu-img.ts';

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
  const blank = async (): Promise<string> => mutex.run('blank', async () => ensureBlank(await base()));
  const orExplained = async (what: string, make: () => Promise<void>): Promise<void> => {
    try {
      await make();
    } catch (error) {
      throw explain(error, directory, `cannot make ${what}`);
    }
  };
  const makeDisk = async (path: string, ownerUid: number, signal: AbortSignal): Promise<void> => {
    const from = await orAborted(blank(), signal);
    await copyFile(from, path, constants.COPYFILE_EXCL);
    await owned(path, ownerUid);
  };
  const pathOf = (sandboxId: string): string => join(directory, `${checkId(sandboxId)}${OVERLAY}`);

  try {
    await mkdir(directory, { recursive: true, mode: 0o711 });
    await chmod(directory, 0o711); // to be reached by the VMs' users and not to be listed
    await removeOldBases(directory, await base());
    await blank();
  } catch (error) {
    throw explain(error, directory, 'cannot set up the scratch disks');
  }
  log.debug({ directory }, 'scratch disk base is ready');

  return {
    directory,
    diskVersion: baseName(config.scratch_size_mib),
    createScratch: async (sandboxId, ownerUid, signal) => {
      const path = pathOf(sandboxId);
      await orExplained(`the scratch disk of sandbox ${sandboxId}`, () =>
        traced('storage: scratch disk', () => makeDisk(path, ownerUid, signal)),
      );
      return path;
    },
    renewDisk: (path, ownerUid, signal) =>
      orExplained(path, async () => {
        await rm(path, { force: true });
        await makeDisk(path, ownerUid, signal);
      }),
    makeWholeDisk: (path, ownerUid, signal) =>
      orExplained(path, async () => {
        await createCopy(path, await base(), signal);
        await owned(path, ownerUid);
      }),
    removeScratch: async (sandboxId) => rm(pathOf(sandboxId), { force: true }),
    usage: async () => usage(directory),
  };
}

/** Removed when that fails. */
async function owned(path: string, uid: number): Promise<void> {
  try {
    await chown(path, uid, uid);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
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
