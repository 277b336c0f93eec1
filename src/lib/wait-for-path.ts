import { watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { orAborted } from './async.ts';
import { exists } from './files.ts';

/** Resolves when `path` exists; told by inotify. Its directory must exist. */
export async function waitForPath(path: string, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const watcher = watch(dirname(path), (_event, name) => {
    if (name === basename(path)) resolve();
  });
  watcher.once('error', reject);
  try {
    if (await exists(path)) return;
    await orAborted(promise, signal);
  } finally {
    watcher.close();
  }
}
