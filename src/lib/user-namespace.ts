import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, writeFile, type FileHandle } from 'node:fs/promises';
import { CaissonError } from './errors.ts';

/** `length` ids from `container` on are those from `host` on outside. */
export interface IdRange {
  readonly container: number;
  readonly host: number;
  readonly length: number;
}

export interface IdMappings {
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
}

/**
 * A user namespace with these mappings and no process in it. A descriptor keeps it alive; a process is needed only to
 * make it.
 */
export async function openUserNamespace({ uids, gids }: IdMappings): Promise<FileHandle> {
  const child = spawn('unshare', ['--user', 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<never>((_, reject) => {
    child.once('error', (cause) => reject(new CaissonError('internal', 'unshare cannot be started', { cause })));
    child.once('exit', () => reject(new CaissonError('internal', 'the kernel made no user namespace')));
  });
  child.stdin.on('error', () => undefined); // that it has ended is known already
  try {
    child.stdin.write('\n'); // its echo: it is in its namespace
    await Promise.race([once(child.stdout, 'data'), ended]);
    await writeFile(`/proc/${child.pid}/uid_map`, mapFile(uids));
    await writeFile(`/proc/${child.pid}/gid_map`, mapFile(gids));
    return await open(`/proc/${child.pid}/ns/user`, 'r');
  } finally {
    ended.catch(() => undefined);
    child.kill('SIGKILL');
  }
}

const mapFile = (ranges: readonly IdRange[]): string =>
  ranges.map(({ container, host, length }) => `${container} ${host} ${length}\n`).join('');
