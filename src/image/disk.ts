import { renameSync } from 'node:fs';
import { chmod, link, lstat, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from '../lib/errors.ts';
import { ignoreMissing, removeTree } from '../lib/files.ts';
import { newId } from '../lib/ids.ts';
import type { FsUsage } from './contracts.ts';

/** The directories of the image store, all in one file system. */
export interface Disk {
  readonly root: string;
  /** manifests, configs and layers as registries have them, named by the hex of their sha256 */
  readonly blobs: string;
  /** EROFS files, named by the hex of their diff id */
  readonly layers: string;
  /** what is here belongs to work under way; emptied at start */
  readonly temporary: string;
  /** HOME of skopeo */
  readonly home: string;
}

/** Makes the directories and clears away what an earlier run left half-made. */
export async function openDisk(root: string): Promise<Disk> {
  const disk: Disk = {
    root,
    blobs: join(root, 'blobs', 'sha256'),
    layers: join(root, 'layers'),
    temporary: join(root, 'tmp'),
    home: join(root, 'skopeo'),
  };
  await removeTree(disk.temporary);
  for (const path of [disk.blobs, disk.temporary, disk.home]) await mkdir(path, { recursive: true, mode: 0o700 });
  // VMs open layers under their own users
  await mkdir(disk.layers, { recursive: true });
  for (const path of [disk.root, disk.layers]) await chmod(path, 0o711);
  return disk;
}

export function layerPath(disk: Disk, diffId: string): string {
  return join(disk.layers, `${hexOf(diffId)}.erofs`);
}

export function blobPath(disk: Disk, digest: string): string {
  return join(disk.blobs, hexOf(digest));
}

export function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}

/** Digests that nothing may be collected of, though no image names them (yet, or any more). */
export class Claims {
  readonly #counts = new Map<string, number>();

  add(digests: readonly string[]): Disposable {
    for (const digest of digests) this.#counts.set(digest, (this.#counts.get(digest) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) for (const digest of digests) this.#drop(digest);
        isHeld = false;
      },
    };
  }

  has(digest: string): boolean {
    return this.#counts.has(digest);
  }

  #drop(digest: string): void {
    const count = this.#counts.get(digest) ?? 0;
    if (count > 1) this.#counts.set(digest, count - 1);
    else this.#counts.delete(digest);
  }
}

/** Removes blobs and layers whose digest nobody uses. */
export async function collectGarbage(disk: Disk, isUsed: (digest: string) => boolean): Promise<void> {
  const [blobs, layers] = await Promise.all([readdir(disk.blobs), readdir(disk.layers)]);
  const trash = join(disk.temporary, `trash-${newId()}`);
  await mkdir(trash);
  // asked and moved without a pause in between: who claims a digest later finds its file gone, never going
  for (const name of blobs) if (!isUsed(`sha256:${name}`)) moveAway(join(disk.blobs, name), trash);
  for (const name of layers) {
    if (!isUsed(`sha256:${name.replace(/\.erofs$/, '')}`)) moveAway(join(disk.layers, name), trash);
  }
  await removeTree(trash);
}

function moveAway(path: string, trash: string): void {
  try {
    renameSync(path, join(trash, newId()));
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error; // another collector was faster
  }
}

/** Gives `target` these files of `source` as hard links; those it has already, and those that vanish, are fine. */
export async function linkFiles(source: string, target: string, names: readonly string[]): Promise<void> {
  for (const name of names) await link(join(source, name), join(target, name)).catch(ignoreRace);
}

function ignoreRace(error: unknown): void {
  if (!isErrno(error, 'ENOENT') && !isErrno(error, 'EEXIST')) throw error;
}

/** Bytes that these files take on disk; missing ones take none. */
export async function bytesOnDisk(paths: Iterable<string>): Promise<number> {
  const sizes = await Promise.all([...paths].map((path) => stat(path).then(diskBytes, ignoreMissing(0))));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** What everything under `root` takes; a file with many links counts once. */
export async function measure(root: string): Promise<FsUsage> {
  const inodes = new Map<number, number>();
  const visit = async (path: string): Promise<void> => {
    const found = await lstat(path).catch(ignoreMissing(undefined));
    if (!found) return;
    inodes.set(found.ino, diskBytes(found));
    if (!found.isDirectory()) return;
    for (const name of await readdir(path).catch(ignoreMissing([]))) await visit(join(path, name));
  };
  await visit(root);
  return { mountpoint: root, usedBytes: inodes.values().reduce((sum, size) => sum + size, 0), inodesUsed: inodes.size };
}

function diskBytes(found: { readonly blocks: number }): number {
  return found.blocks * 512;
}

/** Runs `work` with a directory of its own, which is gone afterwards. */
export async function withWorkDirectory<T>(disk: Disk, work: (directory: string) => Promise<T>): Promise<T> {
  const directory = join(disk.temporary, `work-${newId()}`);
  await mkdir(directory, { mode: 0o700 });
  try {
    return await work(directory);
  } finally {
    await removeTree(directory);
  }
}
