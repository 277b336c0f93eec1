import { CaissonError } from '../lib/errors.ts';
import { HELPERS_MIB, type VmSize } from '../vm/contracts.ts';
import type { PodContext } from './context.ts';
import type { LinuxContainerResources } from './contracts.ts';
import type { SandboxRecord } from './records.ts';
import type { PreparedVm } from './shell.ts';

const MIB = 1024 * 1024;
/** the kernel's default, in microseconds */
const DEFAULT_CPU_PERIOD = 100_000;

export type Limits = LinuxContainerResources | null;

/**
 * What a VM needs for these limits. `least` holds the guest itself; an overhead of the RuntimeClass that has room for
 * more, beside QEMU and its helpers, takes its place. What the pod asks comes on top: its own limits or the sum of its containers', whichever is more. A CPU
 * limit is a rate, so a VM never has more processors than the host; throws `resource_exhausted` for memory that the
 * host does not have.
 */
export function vmSize(
  pod: Pick<SandboxRecord, 'resources' | 'overhead'>,
  containers: readonly Limits[],
  { least, most }: { readonly least: VmSize; readonly most: VmSize },
): VmSize {
  const base = Math.max(least.memoryMib, Math.floor(memoryBytes(pod.overhead) / MIB) - HELPERS_MIB);
  const asked = Math.max(memoryBytes(pod.resources), sum(containers.map(memoryBytes)));
  const processors = Math.max(cpuRate(pod.resources), sum(containers.map(cpuRate)));
  // no memory limit counts them
  const hugePages = sum(containers.map(hugePageBytes));
  const memoryMib = base + Math.ceil((asked + hugePages) / MIB);
  if (memoryMib > most.memoryMib) {
    throw new CaissonError(
      'resource_exhausted',
      `the pod's limits ask for a VM of ${memoryMib} MiB, and the host has ${most.memoryMib} MiB`,
      { hint: 'lower the memory limits of the pod or its containers' },
    );
  }
  return { vcpus: Math.min(most.vcpus, Math.max(least.vcpus, Math.ceil(processors))), memoryMib };
}

/** The VM's size with this pod's containers as they are, and perhaps one more or one changed. */
export function sizeOf(
  context: PodContext,
  sandboxId: string,
  pod: Pick<SandboxRecord, 'resources' | 'overhead'>,
  change?: { readonly containerId: string; readonly limits: Limits },
): VmSize {
  const others = [...context.containers.entries()].filter(
    ([id, record]) => record.sandboxId === sandboxId && record.state !== 'exited' && id !== change?.containerId,
  );
  const limits = others.map(([, { resources }]) => resources);
  return vmSize(pod, change ? [...limits, change.limits] : limits, context.vms.sizes);
}

/** Gives the VM what it has less of than `wanted`; it never shrinks. Returns its size then. */
export async function grow(
  { vm, agent }: PreparedVm,
  present: VmSize,
  wanted: VmSize,
  signal: AbortSignal,
): Promise<VmSize> {
  const size = {
    vcpus: Math.max(present.vcpus, wanted.vcpus),
    memoryMib: Math.max(present.memoryMib, wanted.memoryMib),
  };
  if (size.vcpus === present.vcpus && size.memoryMib === present.memoryMib) return present;
  if (size.memoryMib > present.memoryMib) await vm.growMemory(size.memoryMib, signal);
  if (size.vcpus > present.vcpus) await agent.onlineProcessors(size.vcpus, signal);
  return size;
}

/** As `grow`, for a sandbox that is ready; its record says how large it is. */
export async function growSandbox(context: PodContext, id: string, wanted: VmSize, signal: AbortSignal): Promise<void> {
  await context.locks.run(`size ${id}`, async () => {
    const live = context.liveSandboxes.get(id);
    if (!live) throw new CaissonError('failed_precondition', `sandbox ${id} is not ready`);
    const { size } = context.sandboxes.get(id);
    const now = await grow(live, size, wanted, signal);
    if (now !== size) context.sandboxes.update(id, { size: now });
  });
}

const memoryBytes = (limits: Limits): number => Math.max(0, Number(limits?.memory_limit_in_bytes ?? 0));

const hugePageBytes = (limits: Limits): number =>
  sum((limits?.hugepage_limits ?? []).map(({ limit }) => Math.max(0, Number(limit))));

/** processors */
function cpuRate(limits: Limits): number {
  const quota = Number(limits?.cpu_quota ?? 0);
  return quota > 0 ? quota / (Number(limits?.cpu_period ?? 0) || DEFAULT_CPU_PERIOD) : 0;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
