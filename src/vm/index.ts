import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { orAborted } from '../lib/async.ts';
import { CaissonError, describeError } from '../lib/errors.ts';
import { exists, fileVersion, findProgram, ignoreMissing, removeTree } from '../lib/files.ts';
import { shortId } from '../lib/ids.ts';
import type { Logger } from '../lib/logger.ts';
import { isRunning } from '../lib/processes.ts';
import { chooseAccelerator, type AcceleratorChoice } from './accelerator.ts';
import { bootMachine, type BootOptions } from './boot.ts';
import { probeMemory, type Readiness, type ScratchDisks, type VmPort, type VmSpec } from './contracts.ts';
import { availableMemoryMib, machineShape } from './grow.ts';
import { connectMachine, killAll, killStrays } from './machine.ts';
import { cloneMachine } from './template/clone.ts';
import { holdTemplate } from './template/holder.ts';
import { templateHome, type KeeperOptions } from './template/keeper.ts';
import { memoryOf } from './memory.ts';
import { whileAnswering } from './standstill.ts';
import { chooseTransport } from './vsock/transport.ts';

export interface VmsOptions {
  readonly config: Config['vm'];
  /** of running VMs, one directory each */
  readonly stateDir: string;
  readonly disks: ScratchDisks;
  readonly log: Logger;
}

const PROBE_CID = 0x7fff_0001;

/** The VM port. The accelerator is chosen at once, in the background; the first start waits for the answer. */
export async function openVms(options: VmsOptions): Promise<VmPort> {
  const { config, disks, log } = options;
  const home = vmHome(options.stateDir);
  await mkdir(home, { recursive: true, mode: 0o711 });
  await discardUnfinished(options.stateDir);
  const shape = machineShape(config);
  const transport = chooseTransport(config.transport);
  const closing = new AbortController();
  const boot = {
    qemu: config.qemu,
    vhostDeviceVsock: config.vhost_device_vsock,
    guestImage: config.guest_image,
    shape,
    transport,
    timeoutMs: config.boot_timeout_s * 1000,
    log,
  };
  const probeSpec: VmSpec = {
    sandboxId: 'probe',
    cid: PROBE_CID,
    uid: config.uid_base,
  };
  const memoryFile = probeMemory(config.guest_image);
  let chosen: AcceleratorChoice | undefined;
  let choosing: Promise<AcceleratorChoice> | undefined;
  let failure: { readonly error: unknown; readonly at: number } | undefined;
  const choose = async (): Promise<AcceleratorChoice> => {
    await requireGuestImage(config.guest_image);
    chosen = await chooseAccelerator(
      { wanted: config.accelerator, boot, memoryFile, directory: home, probeSpec, log },
      closing.signal,
    );
    log.info({ ...chosen }, `accelerator: ${chosen.kind}`);
    return chosen;
  };
  const accelerator = (): Promise<AcceleratorChoice> => {
    choosing ??= choose();
    // a failed choice (no guest image yet, QEMU missing) is made again by the next start
    choosing.catch((error: unknown) => {
      choosing = undefined;
      failure = { error, at: Date.now() };
    });
    return choosing;
  };
  const readiness = (): Readiness => {
    if (chosen || !failure) return { ready: true };
    // whoever asks again, as the kubelet does, has it tried again
    if (Date.now() - failure.at > RETRY_MS) accelerator().catch(() => undefined);
    return { ready: false, message: describeError(failure.error) };
  };
  const keeper = async (): Promise<KeeperOptions> => {
    const { kind, cpuModel } = await accelerator();
    const imageInputs = await readGuestInputs(config.guest_image);
    const at = { home: templateHome(config.guest_image), vmHome: home };
    return { ...at, uid: config.uid_base, imageInputs, launch: { ...boot, accelerator: kind, cpuModel }, disks, log };
  };
  const fingerprint = (): string =>
    [findProgram(config.qemu), join(config.guest_image, 'manifest.json')].map(fileVersion).join(' ');
  const template = holdTemplate({ wanted: config.template, keeper, fingerprint, signal: closing.signal, log });

  const spare = async (): Promise<number> => (await availableMemoryMib()) - config.memory_reserve_mib;
  // short: the path of a unix socket has at most 107 bytes
  const directory = (sandboxId: string): string => join(home, shortId(sandboxId));
  return {
    transport,
    sizes: shape,
    memoryOf: (spec) => memoryOf(spec, transport),
    accelerator: () => chosen,
    readiness,
    template: () => template.status(),
    settled: template.settled,
    spareMemoryMib: spare,
    start: async (spec, signal) => {
      requireMemory(shape.least.memoryMib, await spare());
      const { kind, cpuModel } = await orAborted(accelerator(), signal);
      const launch: BootOptions = { ...boot, accelerator: kind, cpuModel };
      const place = directory(spec.sandboxId);
      const source = await orAborted(template.current(), signal);
      if (!source || spec.scratch === undefined) return bootMachine(spec, place, launch, signal);
      try {
        return await cloneMachine(spec, place, source.directory, launch, signal);
      } catch (error) {
        signal.throwIfAborted();
        log.warn({ err: error, sandboxId: spec.sandboxId }, 'a clone of the VM template failed: booting instead');
        // the clone may have written to it, on top of the template's
        await disks.renewDisk(spec.scratch, spec.uid, signal);
        return bootMachine(spec, place, launch, signal);
      }
    },
    adopt: async (sandboxId, record) => {
      if (!(await isRunning(record))) return undefined;
      const input = { record, directory: directory(sandboxId), room: shape.most, log };
      return await whileAnswering(record, () => connectMachine(input, AbortSignal.timeout(ADOPT_TIMEOUT_MS)));
    },
    discard: async (sandboxId, record) => {
      if (record) await killAll(record);
      await killStrays(directory(sandboxId));
      await removeTree(directory(sandboxId));
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort(new CaissonError('cancelled', 'the daemon ends'));
      await template.idle();
    },
  };
}

function requireMemory(neededMib: number, spareMib: number): void {
  if (spareMib >= neededMib) return;
  const has = `the host has ${Math.max(0, Math.floor(spareMib))} MiB of memory to spare`;
  throw new CaissonError('resource_exhausted', `${has}, and a VM begins with ${neededMib} MiB`, {
    hint: 'free memory on the node, or lower memory_reserve_mib or memory_mib in [vm]',
  });
}

const RETRY_MS = 5000;
const ADOPT_TIMEOUT_MS = 10_000;

const vmHome = (stateDir: string): string => join(stateDir, 'vms');

/** Of VMs that were no pod's: a probe, a template or its trial, cut off with an earlier daemon. */
export async function discardUnfinished(stateDir: string): Promise<void> {
  const home = vmHome(stateDir);
  for (const name of await readdir(home).catch(ignoreMissing([]))) {
    if (!/^(probe|template|trial)/.test(name)) continue;
    await killStrays(join(home, name));
    await removeTree(join(home, name));
  }
}

async function readGuestInputs(directory: string): Promise<string> {
  const { inputs } = JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')) as { inputs: string };
  return inputs;
}

async function requireGuestImage(directory: string): Promise<void> {
  if (await exists(join(directory, 'manifest.json'))) return;
  throw new CaissonError('failed_precondition', `there is no guest image in ${directory}`, {
    hint: 'run bin/caisson image build',
  });
}
