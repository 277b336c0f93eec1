import { z } from 'zod';
import { readFile } from 'node:fs/promises';
import { totalmem, availableParallelism } from 'node:os';
import type { Config } from '../config/schema.ts';
import { orAborted, withTimeout } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import type { VmSize } from './contracts.ts';
import { MEMORY_PORT, type MachineShape } from './qemu/command-line.ts';
import type { QmpClient } from './qemu/qmp.ts';

const MIB = 1024 * 1024;
const DEVICE = 'memory';
/** virtio-mem plugs blocks of this size: QEMU's default is that of a huge page, at least 2 MiB */
const BLOCK_MIB = 4;

const PLUG_TIMEOUT_MS = 30_000;

/** What every VM of this daemon starts with; it can grow to what the host has. */
export function machineShape(config: Pick<Config['vm'], 'vcpus' | 'max_vcpus' | 'memory_mib'>): MachineShape {
  const least = { vcpus: config.vcpus, memoryMib: config.memory_mib };
  const room = Math.max(BLOCK_MIB, Math.floor(totalmem() / MIB) - least.memoryMib);
  const most = {
    vcpus: Math.max(least.vcpus, Math.min(config.max_vcpus, availableParallelism())),
    memoryMib: least.memoryMib + room - (room % BLOCK_MIB),
  };
  return { least, most };
}

/** What the kernel thinks can be had without swapping. */
export async function availableMemoryMib(): Promise<number> {
  const text = await readFile('/proc/meminfo', 'utf8');
  return Number(/^MemAvailable:\s*(\d+) kB$/m.exec(text)?.[1]) / 1024;
}

/** Plugs in what is missing of `sizeMib`. QEMU is asked what is there, so that it also works for an adopted VM. */
export async function growMemory(qmp: QmpClient, room: VmSize, sizeMib: number, signal: AbortSignal): Promise<void> {
  const { 'base-memory': base } = memorySummary.parse(await qmp.execute('query-memory-size-summary'));
  const extra = sizeMib * MIB - base;
  const block = BLOCK_MIB * MIB;
  if (extra > 0) await plugMemory(qmp, room.memoryMib * MIB - base, Math.ceil(extra / block) * block, signal);
}

const memorySummary = z.object({ 'base-memory': z.number() });

const memoryDevices = z.array(
  z.object({
    data: z.object({ id: z.string().optional(), size: z.number(), 'requested-size': z.number().optional() }),
  }),
);

/** One device that grows, with room for all that the VM may get: what is not plugged costs nothing. */
async function plugMemory(qmp: QmpClient, room: number, bytes: number, signal: AbortSignal): Promise<void> {
  // before the question: what changes while it is answered is seen by one of the two
  using watch = watchMemory(qmp, bytes);
  const devices = memoryDevices.parse(await qmp.execute('query-memory-devices'));
  const device = devices.find(({ data }) => data.id === DEVICE)?.data;
  if (device && device.size >= bytes) return;
  const isAsked = (device?.['requested-size'] ?? 0) >= bytes; // the guest had no time for it yet
  if (device && !isAsked) {
    const property = { path: `/machine/peripheral/${DEVICE}`, property: 'requested-size', value: bytes };
    await qmp.execute('qom-set', property);
  } else if (!device) {
    const backend = {
      'qom-type': 'memory-backend-memfd',
      id: `${DEVICE}-ram`,
      size: room,
      share: true,
      reserve: false,
    };
    await qmp.execute('object-add', backend);
    const front = { driver: 'virtio-mem-pci', id: DEVICE, memdev: `${DEVICE}-ram`, bus: MEMORY_PORT };
    await qmp.execute('device_add', { ...front, 'requested-size': bytes });
  }
  await orAborted(withTimeout(watch.plugged, PLUG_TIMEOUT_MS, "the guest's taking of more memory"), signal);
}

/** `plugged` resolves when the guest has taken that much; rejects with `unavailable` when QEMU ends first. */
function watchMemory(qmp: QmpClient, bytes: number): Disposable & { readonly plugged: Promise<void> } {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  promise.catch(() => undefined); // nobody may wait for it: QEMU refused the plugging
  const look = ({ id, size }: { readonly id?: unknown; readonly size?: unknown }): void => {
    if (id === DEVICE && Number(size) >= bytes) resolve();
  };
  const gone = (): void => reject(new CaissonError('unavailable', 'QEMU ended while the VM was given memory'));
  qmp.on('MEMORY_DEVICE_SIZE_CHANGE', look);
  qmp.once('close', gone);
  return {
    plugged: promise,
    [Symbol.dispose]: () => {
      qmp.off('MEMORY_DEVICE_SIZE_CHANGE', look);
      qmp.off('close', gone);
    },
  };
}
