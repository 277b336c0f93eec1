import { watch } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { ignoreMissing } from '../../lib/files.ts';
import { DATA_LINK, dataLink } from './data-link.ts';
import { mayHang, readMounts } from './mountinfo.ts';

/**
 * Watches the numbered directories of a container, as the virtiofsd with this pid has them, whose content the kubelet
 * changes as a whole. Not those that may hang, which are never the kubelet's: the daemon would hang with them.
 */
export async function followData(
  pid: number,
  containerId: string,
  changed: (number: number, data: string) => void,
): Promise<DisposableStack> {
  using watchers = new DisposableStack();
  const root = `/proc/${pid}/root/${containerId}`;
  const mounts = await readMounts(pid).catch(() => []); // it has just ended
  const remote = new Set(mounts.filter(mayHang).map(({ mountpoint }) => mountpoint));
  const entries = await readdir(root, { withFileTypes: true }).catch(ignoreMissing([]));
  for (const entry of entries) {
    const directory = `${root}/${entry.name}`;
    if (!entry.isDirectory() || remote.has(`/${containerId}/${entry.name}`)) continue;
    if ((await dataLink(directory)) === undefined) continue;
    let last: string | undefined;
    const look = async (): Promise<void> => {
      const data = await dataLink(directory);
      if (data === undefined || data === last) return;
      last = data;
      changed(Number(entry.name), data);
    };
    const watcher = watch(directory, (_event, name) => {
      if (name === DATA_LINK) void look();
    });
    watcher.on('error', () => watcher.close()); // it has been unmounted
    watcher.unref();
    watchers.defer(() => watcher.close());
    await look();
  }
  return watchers.move();
}
