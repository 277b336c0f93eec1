import { gauge, type Family } from './family.ts';

const NANOSECONDS = 1_000_000_000;

export const processFamilies: readonly Family[] = [
  gauge('container_processes', 'Processes.', ({ sample }) => sample.cgroup.processes),
  gauge('container_threads', 'Threads, those of all processes together.', ({ sample }) => sample.cgroup.tasks),
  gauge('container_threads_max', 'Most threads allowed; 0 means no limit.', ({ sample }) => sample.cgroup.tasksMax),
  gauge(
    'container_file_descriptors',
    'Open file descriptors.',
    ({ container }) => container?.sample?.details?.fileDescriptors,
  ),
  gauge('container_sockets', 'Open sockets.', ({ container }) => container?.sample?.details?.sockets),
  {
    ...gauge('container_ulimits_soft', 'Soft limits of the first process.', () => undefined),
    labels: ['ulimit'],
    read: ({ container }) => {
      const limit = container?.sample?.details?.maxOpenFiles;
      return limit === undefined ? [] : [{ labels: ['max_open_files'], value: limit }];
    },
  },
  gauge(
    'container_last_seen',
    'When the container was last seen, in seconds since the epoch.',
    ({ sample }) => Number(sample.timestamp) / NANOSECONDS,
  ),
  gauge(
    'container_start_time_seconds',
    'When it was started, in seconds since the epoch.',
    ({ container, pod }) => Number(container ? container.container.startedAt : pod.sandbox.createdAt) / NANOSECONDS,
  ),
];
