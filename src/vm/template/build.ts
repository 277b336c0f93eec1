import { chmod, chown, mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { orAborted } from '../../lib/async.ts';
import { CaissonError } from '../../lib/errors.ts';
import { run } from '../../lib/exec.ts';
import { removeTree } from '../../lib/files.ts';
import { createMemfd } from '../../lib/memfd.ts';
import type { ScratchDisks, VmSpec } from '../contracts.ts';
import { launchMachine, type LaunchOptions } from '../launch.ts';
import type { Machine } from '../machine.ts';
import { vmPaths } from '../qemu/command-line.ts';
import { templateFiles } from './files.ts';

/** Printed by the agent of a template when it listens and has given back what it can. */
const SETTLED_MARK = 'caisson-agent: settled';

/** after its last word, which it has to finish itself */
const QUIET_MS = 100;

/**
 * Boots a VM of this shape to a listening agent, stops it and saves memory and devices into `directory`, where it has its disk,
 * too: the clones' disks are overlays on that one.
 */
export async function buildTemplate(
  spec: VmSpec,
  directory: string,
  vmDirectory: string,
  disks: ScratchDisks,
  options: LaunchOptions,
  signal: AbortSignal,
): Promise<void> {
  await removeTree(directory);
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const files = templateFiles(directory);
  await disks.makeWholeDisk(files.scratch, spec.uid, signal);
  using memory = createMemfd('caisson-template');
  const bringUp = async (machine: Machine, startSignal: AbortSignal): Promise<void> => {
    await machine.qmp.execute('cont');
    const settled = machine.guestLog.waitFor((text) => text.includes(SETTLED_MARK));
    await orAborted(settled, startSignal);
    await sleep(QUIET_MS, undefined, { signal: startSignal });
    await machine.qmp.execute('stop');
    await saveDevices(machine, startSignal);
    await run('cp', ['--sparse=always', vmPaths(vmDirectory).savedState, files.state], { signal: startSignal });
    await run('cp', ['--sparse=always', `/proc/${process.pid}/fd/${memory.fd}`, files.ram], { signal: startSignal });
  };
  const ram = { fd: memory.fd, isPrivate: false };
  const plan = {
    memory: ram,
    incoming: false,
    vsock: 'none',
    extraKernelArguments: ['caisson.template'],
    bringUp,
  } as const;
  const machine = await launchMachine({ ...spec, scratch: files.scratch }, vmDirectory, options, plan, signal);
  await machine[Symbol.asyncDispose]();
  // QEMU opens them as the VMs' users
  await chown(files.scratch, 0, 0);
  for (const path of [files.state, files.ram, files.scratch]) await chmod(path, 0o444);
}

/** The memory stays where it is: only what is not in the memory file is written. */
async function saveDevices(machine: Machine, signal: AbortSignal): Promise<void> {
  const { qmp, directory } = machine;
  await ignoreSharedMemory(machine);
  const saved = orAborted(migrated(machine), signal);
  await Promise.all([qmp.execute('migrate', { uri: `file:${vmPaths(directory).savedState}` }), saved]);
}

export async function ignoreSharedMemory({ qmp }: Machine): Promise<void> {
  const capabilities = [
    { capability: 'events', state: true },
    { capability: 'x-ignore-shared', state: true },
  ];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

/**
 * Resolves when QEMU says that a save or a load is complete; rejects with `internal` when it failed. Call it before the
 * command: the last event may come before the command's answer.
 */
export function migrated({ qmp }: Machine): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const look = ({ status }: { readonly status?: unknown }): void => {
    if (status === 'completed') resolve();
    if (status === 'failed' || status === 'cancelled') {
      reject(new CaissonError('internal', `QEMU could not save or load the VM's state: ${status}`));
    }
  };
  qmp.on('MIGRATION', look);
  return promise.finally(() => qmp.off('MIGRATION', look));
}
