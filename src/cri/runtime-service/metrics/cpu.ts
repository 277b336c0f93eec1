import { counter, secondsOf, type Family } from './family.ts';

export const cpuFamilies: readonly Family[] = [
  {
    ...counter('container_cpu_usage_seconds_total', 'Processor time used, in seconds.', () => undefined),
    labels: ['cpu'],
    read: ({ sample }) => [{ labels: ['total'], value: secondsOf(sample.cgroup.cpu.usageUs) }],
  },
  counter('container_cpu_user_seconds_total', 'Processor time used in user mode, in seconds.', ({ sample }) =>
    secondsOf(sample.cgroup.cpu.userUs),
  ),
  counter('container_cpu_system_seconds_total', 'Processor time used in the kernel, in seconds.', ({ sample }) =>
    secondsOf(sample.cgroup.cpu.systemUs),
  ),
  counter(
    'container_cpu_cfs_periods_total',
    'Enforcement periods of the processor quota that have passed.',
    ({ sample }) => sample.cgroup.cpu.periods,
  ),
  counter(
    'container_cpu_cfs_throttled_periods_total',
    'Periods in which the quota was used up.',
    ({ sample }) => sample.cgroup.cpu.throttledPeriods,
  ),
  counter(
    'container_cpu_cfs_throttled_seconds_total',
    'Time spent waiting because the quota was used up, in seconds.',
    ({ sample }) => secondsOf(sample.cgroup.cpu.throttledUs),
  ),
];
