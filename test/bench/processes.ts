/** Processes and what they have used, from /proc; their memory is in memory.ts. */
import { readdir, readFile } from 'node:fs/promises';

const KIB = 1024;

/** These and all their descendants. */
export async function childrenOf(roots: readonly number[]): Promise<number[]> {
  const parents = await Promise.all((await pids()).map(async (pid) => [pid, await parentOf(pid)] as const));
  const found = new Set(roots);
  for (let before = -1; before !== found.size;) {
    before = found.size;
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid);
  }
  return [...found];
}

async function pids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function parentOf(pid: number): Promise<number> {
  return Number(statFields(await procText(pid, 'stat'))[1] ?? 0);
}

/** Fields of /proc/<pid>/stat behind the name, which may hold blanks: state first. */
const statFields = (text: string): string[] => text.slice(text.lastIndexOf(')') + 2).split(' ');

/** Clock ticks of user and system time so far; of processes that are gone, none. */
export async function cpuTicks(processes: readonly number[]): Promise<number> {
  const ticks = await Promise.all(processes.map(async (pid) => ticksOf(await procText(pid, 'stat'))));
  return ticks.reduce((sum, each) => sum + each, 0);
}

export function ticksOf(statText: string): number {
  const fields = statFields(statText);
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
}

/** `MiB` of its resident set. */
export async function residentMib(pid: number): Promise<number> {
  const kib = Number(/^VmRSS:\s+(\d+)/m.exec(await procText(pid, 'status'))?.[1]);
  if (!(kib > 0)) throw new Error(`process ${pid} has no memory: is it running?`);
  return kib / KIB;
}

/** Empty when the process has ended meanwhile. */
async function procText(pid: number, file: string): Promise<string> {
  return readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
}
