/** What processes cost, from /proc. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

const KIB = 1024;
const MIB = 1024 * 1024;
const BLOCK = 512;

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

/** A memory file of a process, such as a VM's RAM. */
export interface MemfdMapping {
  readonly inode: string;
  /** `<start>-<end>`, as in the name in map_files */
  readonly range: string;
  readonly pssKib: number;
}

export interface ProportionalSet {
  readonly pssKib: number;
  readonly memfds: readonly MemfdMapping[];
}

/**
 * `MiB` that these processes take of the host: their proportional set, and what their memory files hold besides. Pages
 * of a memory file that no process has touched through its mapping are in no process's set, and yet in use.
 */
export async function memoryMib(processes: readonly number[]): Promise<number> {
  let kib = 0;
  const files = new Map<string, { readonly allocatedKib: number; mappedKib: number }>();
  for (const pid of processes) {
    const set = parseSmaps(await procText(pid, 'smaps'));
    kib += set.pssKib;
    for (const { inode, range, pssKib } of set.memfds) {
      const file = files.get(inode) ?? { allocatedKib: await allocatedKib(pid, range), mappedKib: 0 };
      file.mappedKib += pssKib;
      files.set(inode, file);
    }
  }
  for (const file of files.values()) kib += Math.max(0, file.allocatedKib - file.mappedKib);
  return (kib * KIB) / MIB;
}

async function allocatedKib(pid: number, range: string): Promise<number> {
  const { blocks } = await stat(join('/proc', String(pid), 'map_files', range));
  return (blocks * BLOCK) / KIB;
}

export function parseSmaps(text: string): ProportionalSet {
  let pssKib = 0;
  const memfds: { inode: string; range: string; pssKib: number }[] = [];
  let current: { inode: string; range: string; pssKib: number } | undefined;
  for (const line of text.split('\n')) {
    const mapping = /^([\da-f]+-[\da-f]+) \S+ \S+ \S+ (\d+)\s*(.*)$/.exec(line);
    if (mapping) {
      const [, range = '', inode = '', path = ''] = mapping;
      current = path.startsWith('/memfd:') ? { inode, range, pssKib: 0 } : undefined;
      if (current) memfds.push(current);
    }
    const pss = Number(/^Pss:\s+(\d+) kB/.exec(line)?.[1] ?? 0);
    pssKib += pss;
    if (current) current.pssKib += pss;
  }
  return { pssKib, memfds };
}

/** Empty when the process has ended meanwhile. */
async function procText(pid: number, file: string): Promise<string> {
  return readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
}
