import { orAborted, withTimeout } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import { traced } from '../lib/trace.ts';
import type { Bind, VolumeShare } from '../storage/contracts.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import { DENSE_HANDLER } from './contracts.ts';
import { loseVm } from './supervise.ts';

const goesOn = new AbortController().signal;

/** Shows the container's volumes to the guest. The first of a pod starts its virtiofsd and plugs it in. */
export async function bindVolumes(
  context: PodContext,
  sandboxId: string,
  live: LiveSandbox,
  containerId: string,
  binds: readonly Bind[],
  signal: AbortSignal,
): Promise<void> {
  if (binds.length === 0) return;
  if (context.sandboxes.get(sandboxId).runtimeHandler === DENSE_HANDLER) {
    throw new CaissonError(
      'failed_precondition',
      `config.mounts: pods of handler ${DENSE_HANDLER} get nothing of the node`,
      {
        hint: 'run the pod with handler caisson',
      },
    );
  }
  const share = await orAborted(requireShare(context, sandboxId, live), signal);
  await share.bind(containerId, binds);
}

/** Tells the guest of every change of a ConfigMap, Secret or token, so that its watchers get their events. */
export async function followVolumes(
  context: PodContext,
  sandboxId: string,
  live: LiveSandbox,
  containerId: string,
): Promise<void> {
  const share = await live.share;
  await share?.follow(containerId, (number, data) => {
    live.agent.syncVolume(containerId, number, data).catch((error: unknown) => {
      if (context.closing || live.stopping || !context.containers.has(containerId)) return;
      context.log.warn({ err: error, sandboxId, containerId, data }, 'a change of a volume did not reach the guest');
    });
  });
}

/** The host lets go of what a container has mounted; never throws. */
export async function releaseVolumes(context: PodContext, sandboxId: string, containerId: string): Promise<void> {
  try {
    const share = await context.liveSandboxes.get(sandboxId)?.share;
    await share?.release(containerId);
  } catch (error) {
    context.log.warn({ err: error, sandboxId, containerId }, 'volumes of a container are still held');
  }
}

/** Not broken off by the caller that happens to be the first: the others wait for it as well. */
export function requireShare(context: PodContext, sandboxId: string, live: LiveSandbox): Promise<VolumeShare> {
  if (live.stopping) throw new CaissonError('failed_precondition', `sandbox ${sandboxId} is being stopped`);
  if (live.share) return live.share;
  const starting = startShare(context, sandboxId, live);
  live.share = starting;
  starting.catch(() => (live.share = undefined));
  return starting;
}

async function startShare(context: PodContext, sandboxId: string, live: LiveSandbox): Promise<VolumeShare> {
  await using undo = new AsyncDisposableStack();
  const { uid } = live.vm.record;
  const share = undo.use(await traced('volumes: start virtiofsd', () => context.volumes.share(sandboxId, uid, goesOn)));
  const { cgroup } = context.sandboxes.get(sandboxId);
  if (cgroup !== undefined) await context.cgroups.enter(cgroup, share.processes);
  await traced('volumes: plug virtiofsd', () => live.vm.attachFs(share.socket, goesOn));
  undo.move();
  watchShare(context, sandboxId, live, share);
  return share;
}

/** virtiofsd ends with its VM, a moment earlier or later. */
const SAME_END_MS = 2000;

/** A pod whose virtiofsd has died hangs at the next file it touches: it is ended with the reason. */
export function watchShare(context: PodContext, sandboxId: string, live: LiveSandbox, share: VolumeShare): void {
  const look = async (): Promise<void> => {
    const words = await share.exited;
    const vmEnded = withTimeout(live.vm.exited, SAME_END_MS, "the VM's end").then(
      () => true,
      () => false,
    );
    if (context.closing || live.stopping || (await vmEnded)) return;
    if (context.closing || live.stopping) return;
    loseVm(context, sandboxId, live, `virtiofsd has ended, so the pod has no volumes any more: ${words}`);
    await live.vm[Symbol.asyncDispose]();
  };
  look().catch((error: unknown) => context.log.error({ err: error, sandboxId }, 'a pod without volumes still runs'));
}
