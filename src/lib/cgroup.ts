import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError, isErrno } from './errors.ts';
import { ignoreMissing } from './files.ts';

/** A tree of cgroups: a v1 host has several, a v2 host one, a hybrid one has v1's and a v2 tree without controllers. */
export interface Hierarchy {
  readonly root: string;
  readonly version: 1 | 2;
  /** those of `WANTED` that it has */
  readonly controllers: readonly string[];
}

/** What a pod is limited and accounted by. */
const WANTED: readonly string[] = ['cpu', 'cpuacct', 'memory', 'pids', 'blkio', 'io', 'hugetlb'];
const EMPTY_TIMEOUT_MS = 5000;
const EMPTY_POLL_MS = 10;

/** Those of the host that count something; none where cgroups are not mounted. */
export async function findHierarchies(): Promise<Hierarchy[]> {
  const found = parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
  const known = found.map(async (hierarchy) =>
    hierarchy.version === 1 ? hierarchy : { ...hierarchy, controllers: await controllersOf(hierarchy.root) },
  );
  return (await Promise.all(known)).filter(({ controllers }) => controllers.length > 0);
}

/** From a /proc/PID/mountinfo; a v2 hierarchy says in a file which controllers it has. */
export function parseHierarchies(mountinfo: string): Hierarchy[] {
  const seen = new Set<string>();
  return mountinfo.split('\n').flatMap((line): Hierarchy[] => {
    const [, , device = '', below, root = '', , ...rest] = line.split(' ');
    const [, type = '', , options = ''] = rest.slice(rest.indexOf('-'));
    if (below !== '/' || !type.startsWith('cgroup') || seen.has(device)) return [];
    seen.add(device);
    if (type === 'cgroup2') return [{ root, version: 2, controllers: [] }];
    return [{ root, version: 1, controllers: options.split(',').filter((name) => WANTED.includes(name)) }];
  });
}

async function controllersOf(directory: string): Promise<string[]> {
  const text = await readFile(`${directory}/cgroup.controllers`, 'utf8').catch(ignoreMissing(''));
  return text
    .trim()
    .split(/\s+/)
    .filter((name) => WANTED.includes(name));
}

/** Makes it, and the cgroups above it that are not there, in every hierarchy. One that is there already is no error. */
export async function makeCgroup(hierarchies: readonly Hierarchy[], path: string): Promise<void> {
  for (const { root, version, controllers } of hierarchies) {
    try {
      await mkdir(`${root}${path}`, { recursive: true });
      if (version === 2) await handDown(root, path, controllers);
    } catch (cause) {
      throw new CaissonError('failed_precondition', `cgroup ${root}${path} cannot be made`, { cause });
    }
  }
}

/** v2: a cgroup has the controllers that each one above it hands down. Where processes are in between, it has fewer. */
async function handDown(root: string, path: string, controllers: readonly string[]): Promise<void> {
  const above = path.split('/').slice(1, -1);
  for (let depth = 0; depth <= above.length; depth++) {
    const directory = [root, ...above.slice(0, depth)].join('/');
    for (const controller of controllers)
      await writeFile(`${directory}/cgroup.subtree_control`, `+${controller}`).catch(ignoreUnavailable);
  }
}

function ignoreUnavailable(error: unknown): void {
  const codes = ['EBUSY', 'ENOENT', 'EINVAL', 'EOPNOTSUPP'];
  if (!codes.some((code) => isErrno(error, code))) throw error;
}

/** Moves processes, with all their threads, into a cgroup that has been made; those that have ended are left out. */
export async function enterCgroup(
  hierarchies: readonly Hierarchy[],
  path: string,
  pids: readonly number[],
): Promise<void> {
  for (const { root } of hierarchies) {
    for (const pid of pids) {
      await writeFile(`${root}${path}/cgroup.procs`, String(pid)).catch((cause: unknown) => {
        if (isErrno(cause, 'ESRCH')) return;
        throw new CaissonError('failed_precondition', `a process cannot be moved to cgroup ${root}${path}`, { cause });
      });
    }
  }
}

const ENTER = `
count=$1; shift
while [ "$count" -gt 0 ]; do echo 0 >"$1/cgroup.procs" || exit; shift; count=$((count - 1)); done
exec "$@"
`;

/** A command line that moves itself into these cgroups before it does anything else. */
export function startedIn(directories: readonly string[], command: readonly string[]): string[] {
  if (directories.length === 0) return [...command];
  return ['sh', '-c', ENTER, 'caisson-cgroup', String(directories.length), ...directories, ...command];
}

/** Waits for the end of processes that are being killed. Idempotent; those above it stay. */
export async function removeCgroup(hierarchies: readonly Hierarchy[], path: string): Promise<void> {
  const deadline = Date.now() + EMPTY_TIMEOUT_MS;
  for (const { root } of hierarchies) await removeTree(`${root}${path}`, deadline);
}

async function removeTree(directory: string, deadline: number): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(ignoreMissing([]));
  for (const entry of entries) if (entry.isDirectory()) await removeTree(`${directory}/${entry.name}`, deadline);
  for (;;) {
    try {
      return await rmdir(directory);
    } catch (cause) {
      if (isErrno(cause, 'ENOENT')) return;
      if (!isErrno(cause, 'EBUSY') || Date.now() > deadline)
        throw new CaissonError('internal', `cgroup ${directory} cannot be removed`, { cause });
      await sleep(EMPTY_POLL_MS);
    }
  }
}

/** Bytes that the cgroup and those above it let its processes have; Infinity without a limit. */
export async function memoryLimit(hierarchies: readonly Hierarchy[], path: string): Promise<number> {
  const hierarchy = hierarchies.find(({ controllers }) => controllers.includes('memory'));
  if (!hierarchy) return Infinity;
  const file = hierarchy.version === 2 ? 'memory.max' : 'memory.limit_in_bytes';
  const parts = path.split('/').slice(1);
  const limits = parts.map(async (_, index) => {
    const directory = [hierarchy.root, ...parts.slice(0, index + 1)].join('/');
    const text = (await readFile(`${directory}/${file}`, 'utf8').catch(ignoreMissing('max'))).trim();
    return text === 'max' ? Infinity : Number(text);
  });
  return Math.min(...(await Promise.all(limits)));
}
