import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';

export interface Written {
  readonly timeMs: number;
  readonly usedBytes: number;
  readonly inodes: number;
}

interface Measurement {
  last: Written | undefined;
  running: boolean;
  notBeforeMs: number;
}

const LEAST_PAUSE_MS = 10_000;
/** more for each file, so that a walk through many takes a small part of the time */
const PAUSE_PER_INODE_MS = 5;
const BLOCK_BYTES = 512;

const measurements = new Map<string, Measurement>();

/**
 * What a directory tree holds, as it was last measured; undefined before the first time. Asking begins a new walk when
 * the last one is long enough ago for what it cost.
 */
export function writtenBelow(directory: string): Written | undefined {
  const known = measurements.get(directory);
  const measurement = known ?? { last: undefined, running: false, notBeforeMs: 0 };
  measurements.set(directory, measurement);
  if (!measurement.running && Date.now() >= measurement.notBeforeMs) void measure(directory, measurement);
  return measurement.last;
}

export function forgetWritten(directory: string): void {
  measurements.delete(directory);
}

async function measure(directory: string, measurement: Measurement): Promise<void> {
  measurement.running = true;
  try {
    const { usedBytes, inodes } = await walk(directory);
    measurement.last = { timeMs: Date.now(), usedBytes, inodes };
  } catch {
    // removed meanwhile
  }
  measurement.notBeforeMs = Date.now() + LEAST_PAUSE_MS + (measurement.last?.inodes ?? 0) * PAUSE_PER_INODE_MS;
  measurement.running = false;
}

/** One entry at a time: containers come first. Links and mounts are not followed; hard links count once. */
export async function walk(top: string): Promise<{ usedBytes: number; inodes: number }> {
  const { dev } = await lstat(top);
  const seen = new Set<number>();
  const pending = [top];
  let usedBytes = 0;
  let inodes = 0;
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for await (const entry of await opendir(directory)) {
      const path = join(directory, entry.name);
      const info = await lstat(path).catch(() => undefined);
      if (!info || info.dev !== dev) continue;
      if (info.nlink > 1 && !info.isDirectory()) {
        if (seen.has(info.ino)) continue;
        seen.add(info.ino);
      }
      usedBytes += info.blocks * BLOCK_BYTES;
      inodes++;
      if (info.isDirectory()) pending.push(path);
    }
  }
  return { usedBytes, inodes };
}
