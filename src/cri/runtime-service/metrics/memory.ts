import { workingSetBytes } from '../stats-messages.ts';
import { counter, gauge, type Family } from './family.ts';

export const memoryFamilies: readonly Family[] = [
  gauge('container_memory_cache', 'Bytes of page cache.', ({ sample }) => sample.cgroup.memory.fileBytes),
  gauge('container_memory_rss', 'Bytes of anonymous memory.', ({ sample }) => sample.cgroup.memory.anonBytes),
  gauge(
    'container_memory_kernel_usage',
    'Bytes that the kernel holds.',
    ({ sample }) => sample.cgroup.memory.kernelBytes,
  ),
  gauge('container_memory_mapped_file', 'Bytes of mapped files.', ({ sample }) => sample.cgroup.memory.mappedFileBytes),
  gauge('container_memory_swap', 'Bytes that are swapped out.', ({ sample }) => sample.cgroup.memory.swapBytes),
  gauge(
    'container_memory_usage_bytes',
    'Bytes in use, page cache included.',
    ({ sample }) => sample.cgroup.memory.currentBytes,
  ),
  gauge('container_memory_max_usage_bytes', 'Most bytes ever in use.', ({ sample }) => sample.cgroup.memory.peakBytes),
  gauge('container_memory_working_set_bytes', 'Bytes in use that cannot be reclaimed at once.', ({ sample }) =>
    workingSetBytes(sample.cgroup),
  ),
  counter(
    'container_memory_failcnt',
    'Times that usage ran into the limit.',
    ({ sample }) => sample.cgroup.memory.limitHits,
  ),
  {
    ...counter('container_memory_failures_total', 'Page faults.', () => undefined),
    labels: ['failure_type', 'scope'],
    read: ({ sample }) => {
      const { pageFaults, majorPageFaults } = sample.cgroup.memory;
      return [
        { labels: ['pgfault', 'hierarchy'], value: pageFaults },
        { labels: ['pgmajfault', 'hierarchy'], value: majorPageFaults },
      ];
    },
  },
  counter(
    'container_oom_events_total',
    'Processes killed for want of memory.',
    ({ sample }) => sample.cgroup.memory.oomKills,
  ),
  {
    ...gauge('container_hugetlb_usage_bytes', 'Bytes of huge pages in use.', () => undefined),
    labels: ['pagesize'],
    read: ({ sample }) =>
      sample.cgroup.hugepages.map(({ pageSize, currentBytes }) => ({ labels: [pageSize], value: currentBytes })),
  },
  {
    ...gauge('container_hugetlb_max_usage_bytes', 'Most bytes of huge pages seen in use.', () => undefined),
    labels: ['pagesize'],
    read: ({ sample }) =>
      sample.cgroup.hugepages.map(({ pageSize, peakBytes }) => ({ labels: [pageSize], value: peakBytes })),
  },
];
