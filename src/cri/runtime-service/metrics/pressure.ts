import type { CgroupStats } from '../../../pod/contracts.ts';
import { counter, secondsOf, type Family } from './family.ts';

type Resource = keyof CgroupStats['pressure'];
const RESOURCES: Readonly<Record<Resource, string>> = { cpu: 'a processor', memory: 'memory', io: 'a disk' };

/** Pressure stall information; nothing where the guest's kernel has none. */
export const pressureFamilies: readonly Family[] = Object.entries(RESOURCES).flatMap(([name, what]) => {
  const resource = name as Resource;
  return [
    counter(
      `container_pressure_${resource}_waiting_seconds_total`,
      `Time in which some tasks waited for ${what}, in seconds.`,
      ({ sample }) => seconds(sample.cgroup.pressure[resource]?.some.totalUs),
    ),
    counter(
      `container_pressure_${resource}_stalled_seconds_total`,
      `Time in which all tasks waited for ${what}, in seconds.`,
      ({ sample }) => seconds(sample.cgroup.pressure[resource]?.full.totalUs),
    ),
  ];
});

const seconds = (microseconds: number | undefined): number | undefined =>
  microseconds === undefined ? undefined : secondsOf(microseconds);
