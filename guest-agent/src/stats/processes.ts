import { readdir, readFile, readlink } from 'node:fs/promises';
import { cgroupProcesses } from '../cgroup.ts';
import { readdirSync } from 'node:fs';

/** Processes beyond these are not looked into, so that a fork bomb does not keep the agent busy. */
const MAX_PROCESSES = 512;
const MAX_DESCRIPTORS = 4096;

export interface ProcessDetails {
  readonly fileDescriptors: number;
  readonly sockets: number;
  readonly maxOpenFiles: number;
}

/** The processes of a cgroup and of those below it, as execs have. */
export async function processesBelow(cgroup: string): Promise<number[]> {
  const pids = await cgroupProcesses(cgroup);
  for (const name of directoriesIn(cgroup)) pids.push(...(await processesBelow(`${cgroup}/${name}`)));
  return pids;
}

function directoriesIn(path: string): string[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return []; // gone
  }
}

/** A process that ends while it is looked at counts for nothing. */
export async function processDetails(pids: readonly number[], firstPid: number | undefined): Promise<ProcessDetails> {
  let fileDescriptors = 0;
  let sockets = 0;
  for (const pid of pids.slice(0, MAX_PROCESSES)) {
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
    fileDescriptors += descriptors.length;
    for (const descriptor of descriptors.slice(0, MAX_DESCRIPTORS)) {
      const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '');
      if (target.startsWith('socket:')) sockets++;
    }
  }
  return { fileDescriptors, sockets, maxOpenFiles: firstPid === undefined ? 0 : await softOpenFiles(firstPid) };
}

async function softOpenFiles(pid: number): Promise<number> {
  const limits = await readFile(`/proc/${pid}/limits`, 'utf8').catch(() => '');
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 0);
}
