import { withTimeout } from '../lib/async.ts';
import { traced } from '../lib/trace.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import type { SandboxRecord } from './records.ts';
import { endContainers, goOn } from './supervise.ts';

const SIGKILL = 9;
/** the guest's grace: after it QEMU is killed, whatever the guest says */
const GUEST_GRACE_MS = 3000;

/** Ends the containers, the VM, the network and the disks of a sandbox. Idempotent; a failure can be retried. */
export async function stopSandbox(context: PodContext, id: string): Promise<void> {
  await context.locks.run(id, () => stopNow(context, id));
}

/** As `stopSandbox`, for who has the sandbox's lock. */
export async function stopNow(context: PodContext, id: string): Promise<void> {
  if (!context.sandboxes.has(id)) return;
  const record = context.sandboxes.get(id);
  const live = context.liveSandboxes.get(id);
  if (live) {
    live.stopping = true;
    // one that stands still hears nothing
    if (!live.standstill) await traced('pod: end containers', () => endGently(context, id, live));
  }
  if (record.state !== 'notready') context.sandboxes.observe(id, { state: 'notready', reason: 'Stopped' });
  if (!record.hasResources) return;
  await releaseAll(context, id, live).finally(() => endContainers(context, id, 'Error', 'the pod was stopped'));
  context.sandboxes.observe(id, { hasResources: false, vm: null, paused: false });
}

/** Lets the containers' last output reach their logs, if the guest still answers. */
async function endGently(context: PodContext, id: string, live: LiveSandbox): Promise<void> {
  const running = [...context.containers.entries()].filter(
    ([, { sandboxId, state }]) => sandboxId === id && state === 'running',
  );
  const ends = running.map(async ([containerId]) => {
    await live.agent.signalContainer(containerId, SIGKILL, true);
    await context.liveContainers.get(containerId)?.ended;
  });
  await withTimeout(Promise.allSettled(ends), GUEST_GRACE_MS, 'the end of the containers').catch((error: unknown) => {
    context.log.warn({ err: error, sandboxId: id }, 'the guest does not stop its containers: killing the VM');
  });
}

/** virtiofsd has ended with its VM; what it leaves goes now. */
async function releaseShare(context: PodContext, id: string, live: LiveSandbox | undefined): Promise<void> {
  const share = await live?.share?.catch(() => undefined);
  await (share ? share[Symbol.asyncDispose]() : context.volumes.discard(id));
}

/** The kubelet may have removed it, with its own. */
export async function removeCgroup({ cgroups }: PodContext, { cgroup }: Pick<SandboxRecord, 'cgroup'>): Promise<void> {
  if (cgroup !== undefined) await cgroups.remove(cgroup);
}

/**
 * All are tried before the first failure is thrown, so that one broken plugin does not keep a VM alive. The network goes
 * while the VM dies: QEMU gets its SIGKILL first, and a pod that no longer runs sends nothing from an address that is
 * given away.
 */
async function releaseAll(context: PodContext, id: string, live: LiveSandbox | undefined): Promise<void> {
  const results = await Promise.allSettled([releaseVm(context, id, live), context.network.teardown(id)]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** The VM with its disk, volumes and cgroup; as `releaseAll`. */
export async function releaseVm(context: PodContext, id: string, live: LiveSandbox | undefined): Promise<void> {
  live?.agent[Symbol.dispose]();
  context.liveSandboxes.delete(id);
  if (live) goOn(live);
  const record = context.sandboxes.get(id);
  await traced('vm: kill', async () =>
    live ? live.vm[Symbol.asyncDispose]() : context.vms.discard(id, record.vm ?? undefined),
  );
  // the disk is QEMU's until it is dead
  const shareGone = releaseShare(context, id, live);
  const results = await Promise.allSettled([
    context.storage.removeScratch(id),
    shareGone,
    shareGone.then(() => removeCgroup(context, record)),
  ]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
