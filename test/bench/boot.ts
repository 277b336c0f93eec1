/** A VM alone, without pod, network or containers: from its start to the first answer of its agent. */
import { randomInt } from 'node:crypto';
import { chmod, mkdtemp } from 'node:fs/promises';
import { connectAgent } from '../../src/agent/index.ts';
import { newId } from '../../src/lib/ids.ts';
import { removeTree } from '../../src/lib/files.ts';
import { configSchema, type Config } from '../../src/config/schema.ts';
import { createLogger } from '../../src/telemetry/index.ts';
import type { VmPort, VmSpec } from '../../src/vm/contracts.ts';
import { openStorage } from '../../src/storage/index.ts';
import type { StoragePort } from '../../src/storage/contracts.ts';
import { openVms } from '../../src/vm/index.ts';
import { timed } from './operations.ts';

export interface BootOptions {
  readonly cold: number;
  readonly clones: number;
}

/** `ms` of each */
export interface BootSamples {
  readonly cold: readonly number[];
  readonly clone: readonly number[];
}

export async function measureBoot(
  config: Config['vm'],
  options: BootOptions,
  signal: AbortSignal,
): Promise<BootSamples> {
  return {
    cold: await startMany({ ...config, template: false }, options.cold, signal),
    clone: await startMany({ ...config, template: true }, options.clones, signal),
  };
}

async function startMany(config: Config['vm'], count: number, signal: AbortSignal): Promise<number[]> {
  const stateDir = await mkdtemp('/tmp/csv-');
  try {
    await chmod(stateDir, 0o711);
    const log = createLogger({ level: 'error' });
    const { storage } = configSchema.parse({});
    const disks = await openStorage({ root: stateDir, config: storage, log });
    await using vms = await openVms({ config, stateDir, disks, log });
    await vms.settled;
    const expected = config.template ? 'ready' : 'off';
    const { state, detail } = vms.template();
    if (state !== expected) throw new Error(`the VM template is ${state}, not ${expected}: ${detail}`);
    const samples: number[] = [];
    for (let i = 0; i < count; i++) samples.push(await startOne(vms, disks, config, signal));
    return samples;
  } finally {
    await removeTree(stateDir);
  }
}

async function startOne(vms: VmPort, disks: StoragePort, config: Config['vm'], signal: AbortSignal): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const spec = specOf(config);
  stack.defer(() => disks.removeScratch(spec.sandboxId));
  const scratch = await disks.createScratch(spec.sandboxId, spec.uid, signal);
  const [ms] = await timed(async () => {
    const vm = stack.use(await vms.start({ ...spec, scratch }, signal));
    const agent = stack.use(connectAgent(vm.agentSocket));
    await agent.info(signal);
  });
  return ms;
}

/** In a network of its own that nobody can reach. */
function specOf({ uid_base }: Config['vm']): VmSpec {
  return {
    sandboxId: newId(),
    cid: randomInt(3, 0x7fff_0000),
    uid: uid_base + 1,
    network: { netnsPath: null, tapName: 'tap0', mac: '02:00:00:00:00:01' },
  };
}
