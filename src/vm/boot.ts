import { orAborted } from '../lib/async.ts';
import { CaissonError, describeError, isCaissonError } from '../lib/errors.ts';
import { tail } from '../lib/exec.ts';
import { readFileIfExists, removeTree } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import { killProcess, type DetachedProcess } from '../lib/processes.ts';
import { waitForPath } from '../lib/wait-for-path.ts';
import type { Accelerator, VmSpec, VsockTransport } from './contracts.ts';
import { connectMachine, makeVmDirectory, type Machine } from './machine.ts';
import { commandLine, sockets } from './qemu/command-line.ts';
import { startCaged, type DevicePath } from './qemu/process.ts';

export interface BootOptions {
  readonly qemu: string;
  readonly vhostDeviceVsock: string;
  readonly guestImage: string;
  readonly accelerator: Accelerator;
  readonly cpuModel: string;
  readonly transport: VsockTransport;
  /** `ms` until the agent listens */
  readonly timeoutMs: number;
  /** `ms` until the kernel prints anything, if that is to be watched */
  readonly firstWordMs?: number;
  readonly log: Logger;
}

/** Printed by the agent (guest-agent/src/main.ts) when it can be dialled. */
const READY_MARK = 'caisson-agent: ';

/**
 * Boots a VM in `directory` and returns when its agent listens. When it does not come up, everything is undone and
 * the error carries the last words of QEMU and of the guest.
 */
export async function bootMachine(
  spec: VmSpec,
  directory: string,
  options: BootOptions,
  signal: AbortSignal,
): Promise<Machine> {
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeTree(directory));
  await makeVmDirectory(directory, spec.uid);
  const startSignal = AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]);

  const helpers =
    options.transport === 'vhost-user-vsock'
      ? [await startVsockHelper(spec, directory, options, startSignal, undo)]
      : [];
  const qemu = await startQemu(spec, directory, options);
  undo.defer(() => killProcess(qemu.identity));

  const record = {
    ...qemu.identity,
    cid: spec.cid,
    uid: spec.uid,
    helperPids: helpers.map(({ identity }) => identity),
    transport: options.transport,
    accelerator: options.accelerator,
  };
  const died = [qemu, ...helpers].map((process) => process.exited.then((how) => Promise.reject(new ExitedEarly(how))));
  for (const death of died) death.catch(() => undefined);
  let machine: Machine | undefined;
  try {
    const connecting = connectMachine(
      { record, directory, diskCount: spec.disks.length, log: options.log },
      startSignal,
    );
    machine = await Promise.race([connecting, ...died]);
    undo.use(machine);
    await machine.qmp.execute('cont');
    await Promise.race([waitForAgent(machine, options, startSignal), ...died]);
  } catch (error) {
    throw await bootError(error, machine, directory, options, signal);
  }
  undo.move();
  return machine;
}

class ExitedEarly extends Error {}

async function startQemu(spec: VmSpec, directory: string, options: BootOptions): Promise<DetachedProcess> {
  const devices: DevicePath[] = [];
  if (spec.network) devices.push('/dev/net/tun');
  if (options.accelerator === 'kvm') devices.push('/dev/kvm');
  if (options.transport === 'vhost-vsock') devices.push('/dev/vhost-vsock');
  return startCaged(options.qemu, commandLine({ ...options, spec, directory }), {
    spec,
    deviceDirectory: `${directory}/dev`,
    devices,
    logFile: `${directory}/qemu.log`,
  });
}

async function startVsockHelper(
  spec: VmSpec,
  directory: string,
  options: BootOptions,
  signal: AbortSignal,
  undo: AsyncDisposableStack,
): Promise<DetachedProcess> {
  const path = sockets(directory);
  // packets over 32 KiB from guests of kernel 6.12 and later wedge version 0.3.0: design.md, section 6
  const device = `guest-cid=${spec.cid},socket=${path.vhostUser},uds-path=${path.vsock},tx-buffer-size=32768`;
  const helper = await startCaged(options.vhostDeviceVsock, ['--vm', device], {
    spec,
    deviceDirectory: `${directory}/dev`,
    devices: [],
    logFile: `${directory}/vsock.log`,
  });
  undo.defer(() => killProcess(helper.identity));
  const failed = helper.exited.then(async (how) => {
    const words = tail((await readFileIfExists(`${directory}/vsock.log`)) ?? '');
    throw new CaissonError('failed_precondition', `${options.vhostDeviceVsock} ended with ${how}: ${words}`, {
      hint: 'run bin/setup',
    });
  });
  failed.catch(() => undefined);
  await Promise.race([waitForPath(path.vhostUser, signal), failed]);
  return helper;
}

async function waitForAgent(machine: Machine, options: BootOptions, signal: AbortSignal): Promise<void> {
  const { guestLog } = machine;
  if (options.firstWordMs !== undefined) {
    const firstWord = AbortSignal.any([signal, AbortSignal.timeout(options.firstWordMs)]);
    await orAborted(
      guestLog.waitFor((text) => text.length > 0),
      firstWord,
    ).catch((error: unknown) => {
      if (signal.aborted) throw error;
      throw new CaissonError('unavailable', `its kernel printed nothing within ${options.firstWordMs} ms`);
    });
  }
  await orAborted(
    guestLog.waitFor((text) => text.includes(READY_MARK)),
    signal,
  );
}

async function bootError(
  error: unknown,
  machine: Machine | undefined,
  directory: string,
  options: BootOptions,
  signal: AbortSignal,
) {
  if (signal.aborted) return error;
  const words = tail((await readFileIfExists(`${directory}/qemu.log`)) ?? '');
  const guest = machine?.guestLogTail();
  const parts = [whatFailed(error, options), words && `QEMU: ${words}`, guest && `guest: ${guest}`].filter(Boolean);
  const missing = /(nsenter|unshare|setpriv).*No such file|not installed|failed to execute/.test(words);
  return new CaissonError(missing ? 'failed_precondition' : 'unavailable', parts.join('; '), {
    cause: error,
    hint: missing ? 'run bin/caisson doctor' : undefined,
  });
}

function whatFailed(error: unknown, options: BootOptions): string {
  if (error instanceof ExitedEarly) return `the VM ended during its start (${error.message})`;
  if (isCaissonError(error, 'cancelled')) {
    return `the VM did not come up within ${Math.round(options.timeoutMs / 1000)} s and was killed`;
  }
  return `the VM did not start: ${describeError(error)}`;
}
