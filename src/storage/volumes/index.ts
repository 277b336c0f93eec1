import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../../config/schema.ts';
import { exists } from '../../lib/files.ts';
import { shortId } from '../../lib/ids.ts';
import type { VolumePort, VolumeShare } from '../contracts.ts';
import { useOf } from './device-use.ts';
import { openHostPath } from './host-path.ts';
import { isBelow, readMounts, type Location } from './mountinfo.ts';
import { removeShare, shareOf } from './share.ts';
import { findVirtiofsd, killVirtiofsd, startVirtiofsd, type Virtiofsd } from './virtiofsd.ts';

export interface VolumesOptions {
  /** of running pods: a directory each */
  readonly stateDir: string;
  readonly config: Pick<Config['storage'], 'virtiofsd'>;
}

export async function openVolumes({ stateDir, config }: VolumesOptions): Promise<VolumePort> {
  const home = join(stateDir, 'volumes');
  await mkdir(home, { recursive: true, mode: 0o711 });
  // short: the path of a unix socket has at most 107 bytes
  const directoryOf = (sandboxId: string): string => join(home, shortId(sandboxId));
  const running = new Set<Virtiofsd>();
  const keep = (daemon: Virtiofsd, directory: string): VolumeShare => {
    running.add(daemon);
    void daemon.exited.then(() => running.delete(daemon));
    return shareOf(daemon, directory, () => running.delete(daemon));
  };
  const discard = async (directory: string): Promise<void> => {
    await killVirtiofsd(directory);
    await removeShare(directory);
  };
  return {
    share: async (sandboxId, vmUid, signal) => {
      const directory = directoryOf(sandboxId);
      try {
        return keep(await startVirtiofsd(config.virtiofsd, directory, vmUid, signal), directory);
      } catch (error) {
        await discard(directory);
        throw error;
      }
    },
    adopt: async (sandboxId) => {
      const directory = directoryOf(sandboxId);
      const daemon = (await exists(directory)) ? await findVirtiofsd(directory) : undefined;
      return daemon && keep(daemon, directory);
    },
    exists: (sandboxId) => exists(directoryOf(sandboxId)),
    discard: async (sandboxId) => {
      const directory = directoryOf(sandboxId);
      if (await exists(directory)) await discard(directory);
    },
    useOf,
    open: (hostPath) => openHostPath(hostPath, (location) => isGuestWritable(location, running)),
  };
}

/**
 * Whether a running pod has the place in a writable volume: the kernel's own list says so. Whoever was given the whole
 * root file system needs no trick to change where the node's links lead.
 */
async function isGuestWritable(location: Location, running: ReadonlySet<Virtiofsd>): Promise<boolean> {
  const root = (await readMounts('self')).find(({ mountpoint }) => mountpoint === '/');
  for (const { pid } of running) {
    const mounts = await readMounts(pid).catch(() => []); // it has just ended
    const found = mounts.some(
      (mount) =>
        !mount.readOnly &&
        mount.device === location.device &&
        isBelow(location.path, mount.root) &&
        !(mount.device === root?.device && mount.root === root.root),
    );
    if (found) return true;
  }
  return false;
}
