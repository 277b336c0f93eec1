import { mkdir, readdir, rmdir, unlink, writeFile } from 'node:fs/promises';
import { CaissonError, isErrno } from '../../lib/errors.ts';
import { ignoreMissing } from '../../lib/files.ts';
import { inMountNamespace, type MountStep } from '../../lib/mount-namespace.ts';
import { changeTree, cloneTree, type MountTree } from '../../lib/mount-tree.ts';
import { openUserNamespace, type IdMappings } from '../../lib/user-namespace.ts';
import type { Bind, HostPath, VolumeShare } from '../contracts.ts';
import { followData } from './follow.ts';
import { killVirtiofsd, sharePaths, type Virtiofsd } from './virtiofsd.ts';

/** The share that `daemon` serves; `gone` is told when it is disposed. */
export function shareOf(daemon: Virtiofsd, directory: string, gone: () => void): VolumeShare {
  const { share, socket } = sharePaths(directory);
  const perform = (steps: readonly MountStep[]): Promise<void> => inMountNamespace(daemon.namespace.fd, steps);
  const watchers = new Map<string, DisposableStack>();
  const forgetWatchers = (): void => {
    for (const watcher of watchers.values()) watcher.dispose();
    watchers.clear();
  };
  let disposed: Promise<void> | undefined;
  const dispose = async (): Promise<void> => {
    gone();
    forgetWatchers();
    await daemon.forget();
    await killVirtiofsd(directory);
    await removeShare(directory);
  };
  return {
    processes: daemon.processes,
    socket,
    exited: daemon.exited,
    bind: (containerId, binds) => bind(share, containerId, binds, perform),
    follow: async (containerId, changed) => {
      const followed = await followData(daemon.pid, checkId(containerId), changed);
      watchers.get(containerId)?.dispose();
      watchers.set(containerId, followed);
    },
    release: async (containerId) => {
      watchers.get(containerId)?.dispose();
      watchers.delete(containerId);
      await perform([{ do: 'detach', target: `/${checkId(containerId)}` }]).catch(async (error: unknown) => {
        // never mounted, or a second release: what matters is that nothing is left
        if (!(await exists(share, containerId))) return;
        throw error;
      });
      await removeMountpoints(`${share}/${containerId}`);
    },
    containers: async () => (await readdir(share)).filter((name) => CONTAINER_ID.test(name)),
    disconnect: () => {
      forgetWatchers();
      return daemon.forget();
    },
    [Symbol.asyncDispose]: () => (disposed ??= dispose()),
  };
}

async function exists(share: string, containerId: string): Promise<boolean> {
  return (await readdir(share)).includes(containerId);
}

const CONTAINER_ID = /^[0-9a-f]{8,64}$/;

/** The id becomes a directory's name. */
function checkId(containerId: string): string {
  if (CONTAINER_ID.test(containerId)) return containerId;
  throw new CaissonError('invalid_argument', `container id ${JSON.stringify(containerId)} is not hexadecimal digits`);
}

async function bind(
  share: string,
  containerId: string,
  binds: readonly Bind[],
  perform: (steps: readonly MountStep[]) => Promise<void>,
): Promise<void> {
  const home = `${share}/${checkId(containerId)}`;
  await mkdir(home, { mode: 0o755 }).catch((error: unknown) => {
    if (!isErrno(error, 'EEXIST')) throw error;
    throw new CaissonError('already_exists', `container ${containerId} has its volumes already`);
  });
  using trees = new DisposableStack();
  try {
    const steps: MountStep[] = [];
    for (const [number, one] of binds.entries()) {
      const tree = trees.use(await treeOf(one));
      const mountpoint = `${home}/${number}`;
      await (one.source.kind === 'directory' ? mkdir(mountpoint) : writeFile(mountpoint, '', { flag: 'wx' }));
      steps.push({ do: 'attach', tree: tree.fd, target: `/${containerId}/${number}` });
    }
    // a mount of its own: the guest forgets all of the container's files when it unmounts it
    await perform([{ do: 'attach to itself', target: `/${containerId}` }, ...steps]);
  } catch (error) {
    await perform([{ do: 'detach', target: `/${containerId}` }]).catch(() => undefined);
    await removeMountpoints(home);
    throw error;
  }
}

/**
 * A copy of the source's mounts. virtiofsd executes nothing and follows no links, and devices are the guest's own: the
 * kernel is told so, too.
 */
async function treeOf({ source, readOnly, followsHost, owners }: Bind): Promise<MountTree> {
  const tree = cloneTree(source.fd);
  try {
    changeTree(tree, {
      set: ['nosuid', 'nodev', 'noexec', 'nosymfollow', ...(readOnly === 'recursive' ? (['readOnly'] as const) : [])],
      propagation: followsHost ? 'slave' : 'private',
      recursive: true,
    });
    if (readOnly === 'yes') changeTree(tree, { set: ['readOnly'], recursive: false });
    if (owners) await mapOwners(tree, source, owners);
    return tree;
  } catch (error) {
    tree[Symbol.dispose]();
    throw error;
  }
}

async function mapOwners(tree: MountTree, { path }: HostPath, owners: IdMappings): Promise<void> {
  await using namespace = await openUserNamespace(owners);
  try {
    changeTree(tree, { owners: namespace.fd, recursive: true });
  } catch (cause) {
    const what = `config.mounts: the owners of the files in ${path} cannot be mapped`;
    throw new CaissonError('failed_precondition', what, {
      cause,
      hint: 'its file system, or one that is mounted below it, knows no mapped mounts',
    });
  }
}

/** Nothing is mounted there, seen from here; and were it, its content would stay: what is not empty is not removed. */
async function removeMountpoints(home: string): Promise<void> {
  const names = await readdir(home, { withFileTypes: true }).catch(ignoreMissing([]));
  for (const entry of names) {
    const path = `${home}/${entry.name}`;
    await (entry.isDirectory() ? rmdir(path) : unlink(path));
  }
  await rmdir(home).catch(ignoreMissing(undefined));
}

/** What is left when virtiofsd has ended. */
export async function removeShare(directory: string): Promise<void> {
  const { share, socket, words } = sharePaths(directory);
  for (const name of await readdir(share).catch(ignoreMissing([]))) await removeMountpoints(`${share}/${name}`);
  await rmdir(share).catch(ignoreMissing(undefined));
  for (const path of [socket, words]) await unlink(path).catch(ignoreMissing(undefined));
  await rmdir(directory).catch(ignoreMissing(undefined));
}
