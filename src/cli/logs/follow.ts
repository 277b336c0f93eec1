/** Reads a file that grows, and the files of the same name that come after it. */
import { constants, watch } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { ignoreMissing } from '../../lib/files.ts';

const CHUNK_BYTES = 64 * 1024;

/** Undefined when it is not there. Not through a link: a name in a pod's log directory may be a tenant's doing. */
export async function openLog(path: string): Promise<FileHandle | undefined> {
  return open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(ignoreMissing(undefined));
}

/** All that is there from `position`, piece by piece. */
export async function* readFrom(file: FileHandle, position: number): AsyncGenerator<Buffer> {
  for (let at = position; ;) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/**
 * What is there from `position`, then what is written, then what is written to a new file of the same name after a
 * rotation. When `over` aborts, what is there by then, and no more.
 */
export async function* follow(path: string, position: number, over: AbortSignal): AsyncGenerator<Buffer> {
  using changes = watchFile(path, over);
  let file = await openLog(path);
  try {
    let at = position;
    for (;;) {
      const last = over.aborted;
      // looked at before reading: what comes in between is read in the next round
      const next = await successor(path, file, at);
      if (file) {
        for await (const chunk of readFrom(file, at)) {
          at += chunk.length;
          yield chunk;
        }
      }
      if (next) {
        await file?.close();
        file = next;
        at = 0;
      } else if (last) return;
      else await changes.next();
    }
  } finally {
    await file?.close();
  }
}

/** The file that has taken the place of `file`, or the same one when it has been cut short. */
async function successor(path: string, file: FileHandle | undefined, at: number): Promise<FileHandle | undefined> {
  const now = await stat(path).catch(ignoreMissing(undefined));
  const before = await file?.stat();
  if (!now || (now.ino === before?.ino && now.dev === before.dev && now.size >= at)) return undefined;
  return openLog(path);
}

interface Changes extends Disposable {
  /** Resolves after the next change, or at once after one that nobody has waited for. */
  next(): Promise<void>;
}

/** By the directory: a name can be given to another file. */
function watchFile(path: string, over: AbortSignal): Changes {
  let changed = false;
  let wake = (): void => undefined;
  const onChange = (): void => {
    changed = true;
    wake();
  };
  const watcher = watch(dirname(path), (_event, name) => {
    if (name === null || name === basename(path)) onChange();
  });
  watcher.on('error', onChange);
  over.addEventListener('abort', onChange, { once: true });
  return {
    next: async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      if (!changed) await promise;
      changed = false;
    },
    [Symbol.dispose]: () => {
      over.removeEventListener('abort', onChange);
      watcher.close();
    },
  };
}
