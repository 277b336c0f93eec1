import { orAborted } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import { traced } from '../lib/trace.ts';
import type { VmSpec } from './contracts.ts';
import { launchMachine, type LaunchOptions } from './launch.ts';
import type { Machine } from './machine.ts';

export interface BootOptions extends LaunchOptions {
  /** `ms` until the kernel prints anything, if that is to be watched */
  readonly firstWordMs?: number;
  readonly extraKernelArguments?: readonly string[];
}

/** Printed by the agent (guest-agent/src/main.ts) when it can be dialled. */
const READY_MARK = 'caisson-agent: ';

/** Boots a VM in `directory`, as `launchMachine` does, and returns when its agent listens. */
export function bootMachine(
  spec: VmSpec,
  directory: string,
  options: BootOptions,
  signal: AbortSignal,
): Promise<Machine> {
  const bringUp = async (machine: Machine, startSignal: AbortSignal): Promise<void> => {
    await machine.qmp.execute('cont');
    await traced('vm: boot', () => waitForAgent(machine, options, startSignal));
  };
  const plan = {
    memory: 'anonymous',
    incoming: false,
    vsock: 'present',
    extraKernelArguments: options.extraKernelArguments ?? [],
    bringUp,
  } as const;
  return launchMachine(spec, directory, options, plan, signal);
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
