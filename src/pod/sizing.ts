import { cpus } from 'node:os';
import type { VmDefaults } from './records.ts';
import type { PodSandboxConfig } from './contracts.ts';

const MIB = 1024 * 1024;

export interface VmSize {
  readonly vcpus: number;
  readonly memoryMib: number;
}

/** The defaults hold the guest itself; what the pod's limits ask comes on top of its memory and rounds its CPUs up. */
export function vmSize(config: PodSandboxConfig, defaults: VmDefaults): VmSize {
  const resources = config.linux?.resources;
  const memory = Math.max(0, Number(resources?.memory_limit_in_bytes ?? 0));
  const quota = Number(resources?.cpu_quota ?? 0);
  const period = Number(resources?.cpu_period ?? 0) || 100_000;
  const wanted = quota > 0 ? Math.ceil(quota / period) : defaults.vcpus;
  return {
    vcpus: Math.max(1, Math.min(wanted, cpus().length)),
    memoryMib: defaults.memory_mib + Math.ceil(memory / MIB),
  };
}
