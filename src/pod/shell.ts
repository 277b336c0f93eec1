import { randomInt } from 'node:crypto';
import type { AgentClient } from '../agent/contracts.ts';
import { together } from '../lib/async.ts';
import { newId } from '../lib/ids.ts';
import type { PreparedNetns } from '../network/contracts.ts';
import type { Vm, VmSpec } from '../vm/contracts.ts';
import type { PodContext } from './context.ts';

const FIRST_CID = 3;
const MAX_CID = 0x7fff_0000;
const UID_RANGE = 65536;

/** What tells a sandbox's VM from every other: chosen before the pod is known. */
export interface ShellIdentity {
  /** the sandbox's id */
  readonly id: string;
  readonly cid: number;
  readonly uid: number;
}

/** Where a VM can start: a netns with its tap, a disk for what containers write. */
export interface Ground {
  readonly netns: PreparedNetns;
  /** path of the disk */
  readonly scratch: string;
}

/** A running VM that any pod can have. */
export interface PreparedVm {
  readonly vm: Vm;
  readonly agent: AgentClient;
}

/** Everything of a pod that does not depend on which pod it is. */
export interface Shell extends PreparedVm {
  readonly identity: ShellIdentity;
  readonly netns: PreparedNetns;
}

/** The vsock address is random, because it is host-wide and other daemons have theirs; no two VMs share a uid either. */
export function newIdentity(context: PodContext): ShellIdentity {
  const records = [...context.sandboxes.entries(), ...context.spares.entries()];
  const taken = new Set(records.map(([, { uid }]) => uid));
  for (;;) {
    const cid = randomInt(FIRST_CID, MAX_CID);
    const uid = context.config.vm.uid_base + 1 + (cid % UID_RANGE);
    if (!taken.has(uid)) return { id: newId(), cid, uid };
  }
}

/** Undone by `undo`, also when it throws. */
export async function makeGround(
  context: PodContext,
  { id, uid }: ShellIdentity,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Ground> {
  undo.defer(() => context.network.teardown(id));
  undo.defer(() => context.storage.removeScratch(id));
  const [netns, scratch] = await together(
    signal,
    (either) => context.network.prepare({ sandboxId: id, tapUid: uid }, either),
    (either) => context.storage.createScratch(id, uid, either),
  );
  return { netns, scratch };
}

export async function startVm(
  context: PodContext,
  identity: ShellIdentity & Pick<VmSpec, 'background' | 'dense' | 'cgroup'>,
  { netns, scratch }: Ground,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<PreparedVm> {
  const spec: VmSpec = {
    sandboxId: identity.id,
    cid: identity.cid,
    uid: identity.uid,
    background: identity.background ?? false,
    dense: identity.dense ?? false,
    cgroup: identity.cgroup ?? [],
    // the guest takes the MAC of the CNI interface over when it is configured
    network: { ...netns, mac: '02:00:00:00:00:01' },
    scratch,
  };
  const vm = undo.use(await context.vms.start(spec, signal));
  const agent = undo.use(context.connectAgent(vm.agentSocket));
  // a call that finds nobody waits for its deadline
  void vm.exited.then(() => agent[Symbol.dispose]());
  return { vm, agent };
}
