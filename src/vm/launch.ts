import { together, withTimeout } from '../lib/async.ts';
import { CaissonError, describeError, isCaissonError } from '../lib/errors.ts';
import { tail } from '../lib/exec.ts';
import { readFileIfExists, removeTree } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import { killProcess, killGroup, LOW_PRIORITY, setNice, type DetachedProcess } from '../lib/processes.ts';
import { traced } from '../lib/trace.ts';
import { waitForPath } from '../lib/wait-for-path.ts';
import type { Accelerator, VmSpec, VsockTransport } from './contracts.ts';
import { connectMachine, makeVmDirectory, type Machine } from './machine.ts';
import { commandLine, vmPaths, type MachineOptions, type MachineShape } from './qemu/command-line.ts';
import { startCaged, type DevicePath } from './qemu/process.ts';

export interface LaunchOptions {
  readonly qemu: string;
  readonly vhostDeviceVsock: string;
  readonly guestImage: string;
  readonly accelerator: Accelerator;
  readonly cpuModel: string;
  readonly shape: MachineShape;
  readonly transport: VsockTransport;
  /** `ms` until it is up */
  readonly timeoutMs: number;
  readonly log: Logger;
}

/** How a VM comes up: by booting, by booting to be saved, or from what was saved. */
export interface LaunchPlan extends Pick<
  MachineOptions,
  'memory' | 'scratchBase' | 'incoming' | 'vsock' | 'extraKernelArguments'
> {
  /** descriptors that QEMU gets behind the memory's */
  readonly inherit?: readonly number[];
  /** from the stopped machine to one that is what the plan is for */
  readonly bringUp: (machine: Machine, signal: AbortSignal) => Promise<void>;
}

/**
 * Starts QEMU and its helper in `directory` and brings the VM up. When it does not come up, everything is undone and
 * the error carries the last words of QEMU and of the guest.
 */
export async function launchMachine(
  spec: VmSpec,
  directory: string,
  options: LaunchOptions,
  plan: LaunchPlan,
  signal: AbortSignal,
): Promise<Machine> {
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeTree(directory));
  await makeVmDirectory(directory, spec.uid);
  const startSignal = AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]);
  const [helpers, qemu] = await startProcesses(spec, directory, options, plan, startSignal, undo);
  if (spec.background) await Promise.all([qemu, ...helpers].map(({ identity }) => setNice(identity, LOW_PRIORITY)));

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
  const failed = new AbortController();
  const attempt = AbortSignal.any([startSignal, failed.signal]);
  const connecting = traced('vm: connect to QEMU', () =>
    connectMachine({ record, directory, room: options.shape.most, log: options.log }, attempt),
  );
  try {
    machine = await Promise.race([connecting, ...died]);
    undo.use(machine);
    await Promise.race([plan.bringUp(machine, attempt), ...died]);
  } catch (error) {
    const words = await bootError(error, machine, directory, options, signal);
    failed.abort();
    // QEMU's end may have come first: what was being connected then is to be undone as well
    if (!machine) {
      undo.defer(async () => (await connecting.catch(() => undefined))?.disconnect());
      undo.defer(() => end(qemu));
    }
    throw words;
  }
  undo.move();
  // a VM that nobody can reach any more is as good as dead: its end is told to all who wait for it
  for (const helper of helpers) void helper.exited.then(() => killProcess(qemu.identity));
  return machine;
}

class ExitedEarly extends Error {}

const GONE_TIMEOUT_MS = 10_000;

/**
 * Returns when it is no more: what it had open, such as the tap, can be another's then. It may still be the cage's shell, with a
 * `mount` or `ip` under way, which would outlive it.
 */
async function end({ identity, exited }: DetachedProcess): Promise<void> {
  await killGroup(identity);
  await withTimeout(exited, GONE_TIMEOUT_MS, `the end of process ${identity.pid} by SIGKILL`);
}

/** Where QEMU does not need the helper at once, they start side by side. */
async function startProcesses(
  spec: VmSpec,
  directory: string,
  options: LaunchOptions,
  plan: LaunchPlan,
  signal: AbortSignal,
  undo: AsyncDisposableStack,
): Promise<[helpers: DetachedProcess[], qemu: DetachedProcess]> {
  const helper = async (either: AbortSignal): Promise<DetachedProcess[]> => {
    if (options.transport === 'vhost-vsock' || plan.vsock === 'none') return [];
    return [await traced('vm: start vsock helper', () => startVsockHelper(spec, directory, options, either, undo))];
  };
  const qemu = async (): Promise<DetachedProcess> => {
    const started = await traced('vm: start QEMU', () => startQemu(spec, directory, options, plan));
    undo.defer(() => end(started));
    return started;
  };
  if (plan.vsock === 'plugged later') return together(signal, helper, qemu);
  return [await helper(signal), await qemu()];
}

async function startQemu(
  spec: VmSpec,
  directory: string,
  options: LaunchOptions,
  plan: LaunchPlan,
): Promise<DetachedProcess> {
  const devices: DevicePath[] = [];
  if (spec.network) devices.push('/dev/net/tun');
  if (options.accelerator === 'kvm') devices.push('/dev/kvm');
  if (options.transport === 'vhost-vsock') devices.push('/dev/vhost-vsock');
  return startCaged(
    options.qemu,
    commandLine({ ...options, ...plan, memory: inherited(plan.memory), spec, directory }),
    {
      spec,
      deviceDirectory: vmPaths(directory).devices,
      devices,
      logFile: vmPaths(directory).qemuLog,
      inherit: [...(plan.memory === 'anonymous' ? [] : [plan.memory.fd]), ...(plan.inherit ?? [])],
    },
  );
}

/** The descriptor behind the standard ones. */
export const FIRST_INHERITED = 3;

const inherited = (memory: LaunchPlan['memory']): LaunchPlan['memory'] =>
  memory === 'anonymous' ? memory : { ...memory, fd: FIRST_INHERITED };

async function startVsockHelper(
  spec: VmSpec,
  directory: string,
  options: LaunchOptions,
  signal: AbortSignal,
  undo: AsyncDisposableStack,
): Promise<DetachedProcess> {
  const path = vmPaths(directory);
  // packets over 32 KiB from guests of kernel 6.12 and later wedge version 0.3.0: design.md, section 6
  const device = `guest-cid=${spec.cid},socket=${path.vhostUser},uds-path=${path.vsock},tx-buffer-size=32768`;
  const helper = await startCaged(options.vhostDeviceVsock, ['--vm', device], {
    spec,
    deviceDirectory: vmPaths(directory).devices,
    devices: [],
    logFile: path.vsockLog,
  });
  undo.defer(() => end(helper));
  const failed = helper.exited.then(async (how) => {
    const words = tail((await readFileIfExists(path.vsockLog)) ?? '');
    throw new CaissonError('failed_precondition', `${options.vhostDeviceVsock} ended with ${how}: ${words}`, {
      hint: 'run bin/setup',
    });
  });
  failed.catch(() => undefined);
  await Promise.race([waitForPath(path.vhostUser, signal), failed]);
  return helper;
}

async function bootError(
  error: unknown,
  machine: Machine | undefined,
  directory: string,
  options: LaunchOptions,
  signal: AbortSignal,
) {
  if (signal.aborted) return error;
  const words = tail((await readFileIfExists(vmPaths(directory).qemuLog)) ?? '');
  const guest = machine?.guestLogTail();
  const parts = [whatFailed(error, options), words && `QEMU: ${words}`, guest && `guest: ${guest}`].filter(Boolean);
  const missing = /(nsenter|unshare|setpriv).*No such file|not installed|failed to execute/.test(words);
  return new CaissonError(missing ? 'failed_precondition' : 'unavailable', parts.join('; '), {
    cause: error,
    hint: missing ? 'run bin/caisson doctor' : undefined,
  });
}

function whatFailed(error: unknown, options: LaunchOptions): string {
  if (error instanceof ExitedEarly) return `the VM ended during its start (${error.message})`;
  if (isCaissonError(error, 'cancelled')) {
    return `the VM did not come up within ${Math.round(options.timeoutMs / 1000)} s and was killed`;
  }
  return `the VM did not start: ${describeError(error)}`;
}
