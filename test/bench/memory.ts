import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

const KIB = 1024;
const BLOCK = 512;

/** `MiB` of the host. */
export interface MemoryUse {
  readonly totalMib: number;
  /** of it, what VMs have as their memory */
  readonly ramMib: number;
  /** of it, machine code that was made at run time: QEMU's translations of the guest's code without KVM */
  readonly translatedMib: number;
}

/** A memory file in a process, such as a VM's memory. */
export interface MemfdMapping {
  readonly inode: string;
  /** `<start>-<end>`, as in the name in map_files */
  readonly range: string;
  readonly pssKib: number;
}

export interface ProportionalSet {
  readonly pssKib: number;
  readonly translatedKib: number;
  readonly memfds: readonly MemfdMapping[];
}

/**
 * What these processes take: their proportional set, and what their memory files hold besides. Pages of a memory file
 * that no process has touched through its mapping are in no process's set, and yet in use.
 */
export async function memoryOf(processes: readonly number[]): Promise<MemoryUse> {
  let pssKib = 0;
  let translatedKib = 0;
  const files = new Map<string, { readonly heldKib: number; mappedKib: number }>();
  for (const pid of processes) {
    const set = parseSmaps(await readFile(`/proc/${pid}/smaps`, 'utf8'));
    pssKib += set.pssKib;
    translatedKib += set.translatedKib;
    for (const { inode, range, pssKib: mapped } of set.memfds) {
      const file = files.get(inode) ?? { heldKib: await heldKib(pid, range), mappedKib: 0 };
      file.mappedKib += mapped;
      files.set(inode, file);
    }
  }
  const held = [...files.values()].map((file) => Math.max(file.heldKib, file.mappedKib));
  const unmapped = [...files.values()].map((file) => Math.max(0, file.heldKib - file.mappedKib));
  return {
    totalMib: (pssKib + sum(unmapped)) / KIB,
    ramMib: sum(held) / KIB,
    translatedMib: translatedKib / KIB,
  };
}

const sum = (values: readonly number[]): number => values.reduce((all, each) => all + each, 0);

async function heldKib(pid: number, range: string): Promise<number> {
  const { blocks } = await stat(join('/proc', String(pid), 'map_files', range));
  return (blocks * BLOCK) / KIB;
}

interface Area {
  readonly inode: string;
  readonly range: string;
  readonly kind: 'memfd' | 'translated' | 'other';
  pssKib: number;
}

export function parseSmaps(text: string): ProportionalSet {
  const areas: Area[] = [];
  for (const line of text.split('\n')) {
    const [, range, mode = '', inode = '', path = ''] =
      /^([\da-f]+-[\da-f]+) (\S+) \S+ \S+ (\d+)\s*(.*)$/.exec(line) ?? [];
    if (range !== undefined) {
      const translated = path === '' && mode.startsWith('rwx');
      const kind = path.startsWith('/memfd:') ? 'memfd' : translated ? 'translated' : 'other';
      areas.push({ inode, range, kind, pssKib: 0 });
    }
    const area = areas.at(-1);
    const pss = /^Pss:\s+(\d+) kB/.exec(line)?.[1];
    if (area && pss !== undefined) area.pssKib += Number(pss);
  }
  const kib = (some: readonly Area[]): number => sum(some.map(({ pssKib }) => pssKib));
  return {
    pssKib: kib(areas),
    translatedKib: kib(areas.filter(({ kind }) => kind === 'translated')),
    memfds: areas.filter(({ kind }) => kind === 'memfd').map(({ inode, range, pssKib }) => ({ inode, range, pssKib })),
  };
}
