import { statfs } from 'node:fs/promises';
import type { ContainerStats } from '../../../proto/generated/agent/caisson/agent/v1/ContainerStats.ts';
import type { FileSystemStats } from '../../../proto/generated/agent/caisson/agent/v1/FileSystemStats.ts';
import type { GetStatsResponse } from '../../../proto/generated/agent/caisson/agent/v1/GetStatsResponse.ts';
import { allContainers, getContainer, type Container } from '../containers.ts';
import { containerPaths, paths } from '../paths.ts';
import { readCgroup } from './cgroup-stats.ts';
import { processDetails, processesBelow } from './processes.ts';
import { writtenBelow } from './written.ts';
import { nowNs } from '../clock.ts';

/** Statistics of these containers, or of all that run, and of all together. */
export async function readStats(ids: readonly string[], details: boolean): Promise<GetStatsResponse> {
  const chosen = ids.length > 0 ? ids.map(getContainer) : [...allContainers()].filter(isRunning);
  const containers = [];
  // one after the other: between two of them calls are answered
  for (const container of chosen) containers.push(await containerStats(container, details));
  const processes = await processesBelow(paths.containerCgroups);
  return {
    time_ns: String(nowNs()),
    containers,
    pod: { ...readCgroup(paths.containerCgroups), processes: processes.length },
    scratch: await fileSystem(paths.scratch),
  };
}

const isRunning = ({ pid, exit }: Container): boolean => pid !== undefined && !exit;

async function containerStats(container: Container, details: boolean): Promise<ContainerStats> {
  const { cgroup, writable } = containerPaths(container.id);
  const processes = await processesBelow(cgroup);
  const written = writtenBelow(`${writable}/upper`);
  const more = details ? await processDetails(processes, container.pid) : undefined;
  return {
    id: container.id,
    cgroup: { ...readCgroup(cgroup), processes: processes.length },
    written: written
      ? { time_ns: `${written.timeMs}000000`, used_bytes: written.usedBytes, inodes: written.inodes }
      : null,
    details: more
      ? { file_descriptors: more.fileDescriptors, sockets: more.sockets, max_open_files: more.maxOpenFiles }
      : null,
  };
}

async function fileSystem(path: string): Promise<FileSystemStats | null> {
  const info = await statfs(path).catch(() => undefined); // not mounted before the sandbox is configured
  if (!info) return null;
  return {
    total_bytes: info.blocks * info.bsize,
    free_bytes: info.bavail * info.bsize,
    inodes: info.files,
    free_inodes: info.ffree,
  };
}
