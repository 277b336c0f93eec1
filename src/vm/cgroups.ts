import type { Config } from '../config/schema.ts';
import { enterCgroup, findHierarchies, makeCgroup, memoryLimit, removeCgroup } from '../lib/cgroup.ts';
import { CaissonError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { HELPERS_MIB, type CgroupPort } from './contracts.ts';

const MIB = 1024 * 1024;

/** The cgroups of the host; on a host without any, all of it does nothing. */
export async function openCgroups(config: Pick<Config['vm'], 'cgroup_parent'>, log: Logger): Promise<CgroupPort> {
  const hierarchies = await findHierarchies();
  const usual = config.cgroup_parent;
  return {
    place: async (parent, memoryMib) => {
      if (parent === '') return usual;
      const asked = cgroupPath(parent);
      const limit = await memoryLimit(hierarchies, asked);
      const needsMib = memoryMib + HELPERS_MIB;
      if (limit >= needsMib * MIB) return asked;
      log.warn(
        { cgroup: asked, limitMib: Math.floor(limit / MIB), needsMib, instead: usual },
        "a pod's cgroup has too little memory for its VM, which therefore runs outside of it: give its RuntimeClass an overhead",
      );
      return usual;
    },
    make: (path) => makeCgroup(hierarchies, path),
    directories: (path) => hierarchies.map(({ root }) => `${root}${path}`),
    enter: (path, processes) =>
      enterCgroup(
        hierarchies,
        path,
        processes.map(({ pid }) => pid),
      ),
    remove: (path) => removeCgroup(hierarchies, path),
  };
}

const FIELD = 'config.linux.cgroup_parent';

/** Of a path as it is, or of a systemd slice, whose place its name tells: `a-b.slice` is in `a.slice`. The root is `''`. */
export function cgroupPath(parent: string): string {
  const refuse = (why: string): never => {
    throw new CaissonError('invalid_argument', `${FIELD}: ${JSON.stringify(parent)} ${why}`);
  };
  const parts = parent.split('/').filter(Boolean);
  if (parts.some((part) => part === '..' || part === '.')) return refuse('has a "." or ".." in it');
  if (/[\n\0]/.test(parent)) return refuse('has a line break or a NUL');
  const last = parts.at(-1) ?? '';
  if (last.endsWith('.slice')) return slicePath(last) ?? refuse('is not the name of a slice');
  return parent.startsWith('/')
    ? parts.map((part) => `/${part}`).join('')
    : refuse('is neither an absolute path nor a slice');
}

function slicePath(name: string): string | undefined {
  if (name === '-.slice') return '';
  const words = name.slice(0, -'.slice'.length).split('-');
  if (words.includes('')) return undefined;
  return words.map((_, index) => `/${words.slice(0, index + 1).join('-')}.slice`).join('');
}
