import { openSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { CaissonError } from '../../src/lib/errors.ts';
import { mountMapped } from './native.ts';
import { startChild } from './reaper.ts';
import type { OciIdMapping, OciSpec } from './spec.ts';

/** As OCI's linux.uidMappings and linux.gidMappings. */
export interface IdMappings {
  readonly uids: readonly OciIdMapping[];
  readonly gids: readonly OciIdMapping[];
}

/** Undefined for a container without a user namespace. */
export function mappingsOf({ linux }: OciSpec): IdMappings | undefined {
  const { uidMappings: uids, gidMappings: gids } = linux;
  return uids && gids ? { uids, gids } : undefined;
}

/** The id in the VM that root of the container has. */
export const rootId = (mappings: readonly OciIdMapping[]): number =>
  mappings.find(({ containerID }) => containerID === 0)?.hostID ?? 0;

/** Ids that the process's user has in the VM; undefined without a user namespace, where they are its own. */
export function mappedUser(spec: OciSpec): { readonly uid: number; readonly gid: number } | undefined {
  const mappings = mappingsOf(spec);
  if (!mappings) return undefined;
  const { uid = 0, gid = 0 } = spec.process.user ?? {};
  return { uid: rootId(mappings.uids) + uid, gid: rootId(mappings.gids) + gid };
}

/** Descriptors of namespaces with these mappings, which the kernel needs to make a mapped mount; kept for the VM's life. */
const namespaces = new Map<string, Promise<number>>();

/** Mounts `source` on `target` so that the owners of its files are those that the mappings make of them. */
export async function mountWithMappings(source: string, target: string, mappings: IdMappings): Promise<void> {
  const key = JSON.stringify(mappings);
  const known = namespaces.get(key) ?? makeNamespace(mappings);
  namespaces.set(key, known);
  known.catch(() => namespaces.delete(key));
  await mkdir(target, { recursive: true });
  mountMapped(source, target, await known);
}

/** A user namespace lives as long as somebody holds a descriptor of it: a process is needed only to make it. */
async function makeNamespace({ uids, gids }: IdMappings): Promise<number> {
  const script = 'echo; exec /usr/bin/busybox sleep 60';
  const child = startChild('/usr/bin/busybox', ['unshare', '-U', '/usr/bin/busybox', 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => reject(new CaissonError('internal', 'no user namespace could be made in the guest')));
      child.stdout?.once('data', () => resolve());
    });
    await writeFile(`/proc/${child.pid}/uid_map`, mapFile(uids));
    await writeFile(`/proc/${child.pid}/gid_map`, mapFile(gids));
    return openSync(`/proc/${child.pid}/ns/user`, 'r');
  } finally {
    child.kill('SIGKILL');
  }
}

const mapFile = (mappings: readonly OciIdMapping[]): string =>
  mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('');
