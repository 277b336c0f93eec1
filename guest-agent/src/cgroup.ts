import { isErrno } from '../../src/lib/errors.ts';
import { rmdir, writeFile } from 'node:fs/promises';
import { ignoreMissing, readFileIfExists } from '../../src/lib/files.ts';

/** Kills every process of a cgroup and below it; a cgroup that is gone has none. */
export async function killCgroup(path: string): Promise<void> {
  await writeFile(`${path}/cgroup.kill`, '1').catch(ignoreMissing(undefined));
}

/** False when there are still processes in it. */
export async function removeCgroup(path: string): Promise<boolean> {
  return rmdir(path).then(
    () => true,
    (error: unknown) => isErrno(error, 'ENOENT'),
  );
}

export async function cgroupProcesses(path: string): Promise<number[]> {
  const text = (await readFileIfExists(`${path}/cgroup.procs`)) ?? '';
  return text.split('\n').filter(Boolean).map(Number);
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
