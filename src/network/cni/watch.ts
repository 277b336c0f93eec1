import { existsSync, watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { dirname, relative, sep } from 'node:path';

const DEBOUNCE_MS = 50;

/**
 * Calls `onChange` a moment after the directory or a file in it changed. A directory that does not exist, or is removed
 * and made again, is waited for by watching the nearest of its ancestors that exists.
 */
export function watchDirectory(directory: string, onChange: () => void): Disposable {
  let watcher: FSWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const arm = (): void => {
    watcher?.close();
    const target = nearestExisting(directory);
    // of an ancestor, only the next step towards the directory matters
    const awaited = relative(target, directory).split(sep)[0];
    try {
      watcher = watch(target, { persistent: false });
    } catch {
      schedule(); // removed since nearestExisting saw it
      return;
    }
    watcher.on('change', (_type, name) => {
      if (awaited === '' || name === awaited || !existsSync(target)) schedule();
    });
    watcher.on('error', schedule);
  };
  const fire = (): void => {
    timer = undefined;
    if (closed) return;
    arm(); // anew each time, since the directory may be another one of the same name
    onChange();
  };
  const schedule = (): void => {
    timer ??= setTimeout(fire, DEBOUNCE_MS).unref();
  };

  arm();
  return {
    [Symbol.dispose]: () => {
      closed = true;
      clearTimeout(timer);
      watcher?.close();
    },
  };
}

function nearestExisting(path: string): string {
  let candidate = path;
  while (!existsSync(candidate) && candidate !== dirname(candidate)) candidate = dirname(candidate);
  return candidate;
}
