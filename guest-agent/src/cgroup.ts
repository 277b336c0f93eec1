import { once } from 'node:events';
import { rmdirSync, watch } from 'node:fs';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';
import { writeFile } from 'node:fs/promises';
import { ignoreMissing, readFileIfExists } from '../../src/lib/files.ts';

/** Kills every process of a cgroup and below it; a cgroup that is gone has none. */
export async function killCgroup(path: string): Promise<void> {
  await writeFile(`${path}/cgroup.kill`, '1').catch(ignoreMissing(undefined));
}

/** False when there are still processes in it. */
export function removeCgroup(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    return isErrno(error, 'ENOENT');
  }
}

export async function cgroupProcesses(path: string): Promise<number[]> {
  const text = (await readFileIfExists(`${path}/cgroup.procs`)) ?? '';
  return text.split('\n').filter(Boolean).map(Number);
}

const FREEZE_TIMEOUT_MS = 5000;

/** Returns when all processes of the cgroup and below it stand still, or may go on. */
export async function setFrozen(path: string, frozen: boolean): Promise<void> {
  const wanted = frozen ? 1 : 0;
  const deadline = AbortSignal.timeout(FREEZE_TIMEOUT_MS);
  const changes = watch(`${path}/cgroup.events`);
  try {
    await writeFile(`${path}/cgroup.freeze`, String(wanted));
    for (;;) {
      const changed = once(changes, 'change', { signal: deadline });
      // not waited for when there is nothing to wait for
      changed.catch(() => undefined);
      if ((await cgroupCounters(path, 'cgroup.events')).get('frozen') === wanted) return;
      await changed;
    }
  } catch (cause) {
    if (frozen) await writeFile(`${path}/cgroup.freeze`, '0').catch(ignoreMissing(undefined));
    if (!deadline.aborted) throw cause;
    throw new CaissonError('unavailable', `not all processes stand still after ${FREEZE_TIMEOUT_MS} ms`, { cause });
  } finally {
    changes.close();
  }
}

/** A `key value` file such as memory.events. */
export async function cgroupCounters(path: string, file: string): Promise<Map<string, number>> {
  const text = (await readFileIfExists(`${path}/${file}`)) ?? '';
  return new Map(
    text
      .split('\n')
      .map((line) => line.split(' '))
      .map(([key = '', value]) => [key, Number(value)]),
  );
}
