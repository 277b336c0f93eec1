import { fchmodSync, fchownSync, ftruncateSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { startedIn } from '../../lib/cgroup.ts';
import { orAborted } from '../../lib/async.ts';
import { run } from '../../lib/exec.ts';
import { createMemfd } from '../../lib/memfd.ts';
import { traced } from '../../lib/trace.ts';
import { LOW_PRIORITY, NORMAL_PRIORITY } from '../../lib/processes.ts';
import type { VmSpec } from '../contracts.ts';
import { FIRST_INHERITED, launchMachine, type LaunchOptions } from '../launch.ts';
import type { Machine } from '../machine.ts';
import { memoryOf } from '../memory.ts';
import { vmPaths, VSOCK_PORT } from '../qemu/command-line.ts';
import { ignoreSharedMemory, migrated } from './build.ts';
import { openTemplate } from './files.ts';

/**
 * A VM that goes on where the template in `templateDirectory` was stopped, with memory of its own. Its disk, which must be a
 * new one, goes on where the template's was. Returns when its vsock device is plugged in. Undone by its dispose.
 */
export async function cloneMachine(
  spec: VmSpec,
  directory: string,
  templateDirectory: string,
  options: LaunchOptions,
  signal: AbortSignal,
): Promise<Machine> {
  await using template = await openTemplate(templateDirectory);
  const { kind } = memoryOf(spec, options.transport);
  await using copy = kind === 'copied' ? await startCopy(spec, template.ram, signal) : undefined;
  const bringUp = async (machine: Machine, startSignal: AbortSignal): Promise<void> => {
    await Promise.all([ignoreSharedMemory(machine), doNotAnnounce(machine)]);
    await copy?.done;
    const loaded = orAborted(migrated(machine), startSignal);
    const uri = `file:/proc/self/fd/${FIRST_INHERITED + 1}`;
    await traced('vm: load state', () => Promise.all([machine.qmp.execute('migrate-incoming', { uri }), loaded]));
    await machine.qmp.execute('cont');
    await traced('vm: plug vsock', () => plugVsock(machine, options, spec));
    await traced('vm: guest takes vsock', () => untilTaken(machine, options, startSignal));
    await traced('vm: dial agent', () => machine.untilDialled(startSignal));
  };
  const plan = {
    memory: { fd: copy?.fd ?? template.ram.fd, isPrivate: kind === 'private' },
    inherit: [template.state.fd, template.scratch.fd],
    scratchBase: FIRST_INHERITED + 2,
    incoming: true,
    vsock: 'plugged later',
    extraKernelArguments: [],
    bringUp,
  } as const;
  return await launchMachine(spec, directory, options, plan, signal);
}

/** What is zero for so long is left out: less takes longer, more wastes memory. */
const HOLE_BYTES = 16 * 1024;

interface MemoryCopy extends AsyncDisposable {
  readonly fd: number;
  readonly done: Promise<void>;
}

/**
 * By a process in the pod's cgroup: memory counts for whoever writes it first. QEMU, which reads none of it before it loads
 * the state, starts meanwhile; it wants the file to have its size by then, so the copier must not cut it short.
 */
async function startCopy(
  { sandboxId, uid, background, cgroup }: VmSpec,
  ram: FileHandle,
  signal: AbortSignal,
): Promise<MemoryCopy> {
  const { size } = await ram.stat();
  using undo = new DisposableStack();
  const memory = undo.use(createMemfd(`caisson-${sandboxId.slice(0, 13)}`));
  ftruncateSync(memory.fd, size);
  // QEMU opens it as the VM's user, through /proc/self/fd
  fchownSync(memory.fd, uid, uid);
  fchmodSync(memory.fd, 0o600);
  const [from, to] = [ram.fd, memory.fd].map((fd) => `/proc/${process.pid}/fd/${fd}`);
  const priority = String(background ? LOW_PRIORITY : NORMAL_PRIORITY);
  const dd = ['dd', `if=${from}`, `of=${to}`, `bs=${HOLE_BYTES}`, 'conv=sparse,notrunc', 'status=none'];
  const copy = ['nice', '-n', priority, ...dd];
  const [program = '', ...args] = startedIn(cgroup ?? [], copy);
  const given = new AbortController();
  const either = AbortSignal.any([signal, given.signal]);
  const done = run(program, args, { signal: either, phase: 'vm: copy RAM' }).then(() => undefined);
  done.catch(() => undefined); // told to whoever waits for it
  undo.move();
  return {
    fd: memory.fd,
    done,
    [Symbol.asyncDispose]: async () => {
      given.abort();
      await done.catch(() => undefined);
      memory[Symbol.dispose]();
    },
  };
}

/**
 * A VM that goes on elsewhere tells the network so, for a second: QEMU by frames of its own, and by asking the guest. A clone
 * has been nowhere, and a guest that takes its interface down while it is asked locks up: Linux 6.12
 * drivers/net/virtio_net.c, virtnet_close waits for config_work, which waits for the lock that virtnet_close's caller has.
 */
async function doNotAnnounce({ qmp }: Machine): Promise<void> {
  await qmp.execute('migrate-set-parameters', { 'announce-rounds': 0 });
}

const LOOK_AGAIN_MS = 10;
const virtioStatus = z.object({ status: z.object({ statuses: z.array(z.string()) }) });

/**
 * Returns when the guest's driver has the device, of which QEMU tells no event. Dialled before, vhost-device-vsock 0.3.0
 * may lock itself up for good.
 */
async function untilTaken({ qmp }: Machine, { transport }: LaunchOptions, signal: AbortSignal): Promise<void> {
  if (transport === 'vhost-vsock') return;
  for (;;) {
    const path = '/machine/peripheral/vsock0/virtio-backend';
    const { status } = virtioStatus.parse(await qmp.execute('x-query-virtio-status', { path }));
    if (status.statuses.some((line) => line.startsWith('VIRTIO_CONFIG_S_DRIVER_OK'))) return;
    await sleep(LOOK_AGAIN_MS, undefined, { signal });
  }
}

async function plugVsock({ qmp, directory }: Machine, options: LaunchOptions, spec: VmSpec): Promise<void> {
  const { transport, accelerator } = options;
  if (transport === 'vhost-vsock') {
    await qmp.execute('device_add', {
      driver: 'vhost-vsock-pci',
      id: 'vsock0',
      bus: VSOCK_PORT,
      'guest-cid': spec.cid,
    });
    return;
  }
  const address = { type: 'unix', data: { path: vmPaths(directory).vhostUser } };
  await qmp.execute('chardev-add', {
    id: 'vsock',
    backend: { type: 'socket', data: { addr: address, server: false } },
  });
  await qmp.execute('device_add', {
    driver: 'vhost-user-vsock-pci',
    id: 'vsock0',
    chardev: 'vsock',
    bus: VSOCK_PORT,
    // interrupts by the pin: setting up MSI-X is a sixth of what the guest's kernel has to do here, all of it yet to be translated
    ...(accelerator === 'tcg' && { vectors: 0 }),
  });
}
