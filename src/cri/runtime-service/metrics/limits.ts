import type { LinuxContainerResources } from '../../../pod/contracts.ts';
import { limitOf } from '../stats-messages.ts';
import { gauge, type Family } from './family.ts';

/** What was asked for, not what was used. */
export const limitFamilies: readonly Family[] = [
  spec('container_spec_cpu_period', 'Period of the processor quota, in microseconds.', ({ cpu_period }) => cpu_period),
  spec('container_spec_cpu_quota', 'Processor quota of a period, in microseconds.', ({ cpu_quota }) => cpu_quota),
  spec('container_spec_cpu_shares', 'Share of the processors.', ({ cpu_shares }) => cpu_shares),
  spec('container_spec_memory_limit_bytes', 'Memory limit; 0 means none.', (asked) => asked.memory_limit_in_bytes),
  spec(
    'container_spec_memory_swap_limit_bytes',
    'Limit of memory and swap; 0 means none.',
    (asked) => asked.memory_swap_limit_in_bytes,
  ),
  spec(
    'container_spec_memory_reservation_limit_bytes',
    'Memory that is protected from reclaim; 0 means none.',
    ({ unified }) => unified['memory.low'] ?? '0',
  ),
];

/** Nothing for the pod as a whole; 0 for a container without limits. */
function spec(name: string, help: string, read: (asked: LinuxContainerResources) => string): Family {
  return gauge(name, help, ({ container }) => {
    if (!container) return undefined;
    const { resources } = container.container;
    return resources ? (limitOf(read(resources)) ?? 0) : 0;
  });
}
