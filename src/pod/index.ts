import type { Store } from '../state/contracts.ts';
import { CaissonError } from '../lib/errors.ts';
import { attach } from './attach.ts';
import { keepClocks } from './clock.ts';
import { makeContext, type PodContext } from './context.ts';
import type { PodService } from './contracts.ts';
import { createContainer } from './create-container.ts';
import { publishEvents } from './events.ts';
import { execStream } from './exec-stream.ts';
import { execSync } from './exec-sync.ts';
import { listContainers, listSandboxes } from './lists.ts';
import { portForward } from './port-forward.ts';
import { containerView, sandboxView, type ContainerRecord, type SandboxRecord, type SpareRecord } from './records.ts';
import { recover } from './recover.ts';
import { Registry } from './registry.ts';
import { removeContainer } from './remove-container.ts';
import { removeSandbox } from './remove-sandbox.ts';
import { runSandbox } from './run-sandbox.ts';
import { sftp } from './sftp.ts';
import { pauseContainer, unpauseContainer } from './pause-container.ts';
import { pauseSandbox, resumeSandbox } from './pause-sandbox.ts';
import { startSandbox } from './start-sandbox.ts';
import { startContainer } from './start-container.ts';
import { goOn } from './supervise.ts';
import { stopContainer } from './stop-container.ts';
import { statsService } from './stats/index.ts';
import { stopSandbox } from './stop-sandbox.ts';
import { requireLive, requireStreamable } from './live.ts';
import { updateContainerResources, updateSandboxResources } from './update-resources.ts';
import { vmExec } from './vm-exec.ts';
import { WarmPool } from './warm-pool.ts';

export type PodsOptions = Pick<
  PodContext,
  'config' | 'log' | 'images' | 'network' | 'storage' | 'volumes' | 'vms' | 'cgroups' | 'connectAgent'
> & {
  readonly store: Store;
  readonly setPodCidr: (cidr: string) => void;
};

/** The pod service; returns when everything an earlier daemon left has been taken over or undone. */
export async function openPods(options: PodsOptions): Promise<PodService> {
  const { store, setPodCidr, ...ports } = options;
  const onUnstored = (id: string, err: unknown): void =>
    ports.log.error({ err, id }, 'a change of a pod or container could not be stored');
  const context = makeContext({
    ...ports,
    sandboxes: new Registry('sandbox', store.collection<SandboxRecord>('sandbox'), onUnstored),
    containers: new Registry('container', store.collection<ContainerRecord>('container'), onUnstored),
    spares: new Registry('spare', store.collection<SpareRecord>('spare'), onUnstored),
  });
  publishEvents(context);
  await recover(context);
  const pool = new WarmPool(context);
  const clocks = keepClocks(() => context.liveSandboxes.values().filter(({ standstill }) => !standstill), context.log);
  const { sandboxes, containers } = context;
  const ifKnown = async (id: string | undefined, task: (id: string) => Promise<void>): Promise<void> => {
    if (id !== undefined) await task(id);
  };
  return {
    runSandbox: (config, handler, signal) => runSandbox(context, () => pool.take(), config, handler, signal),
    stopSandbox: (id) => ifKnown(sandboxes.resolve(id), (known) => stopSandbox(context, known)),
    removeSandbox: (id) => ifKnown(sandboxes.resolve(id), (known) => removeSandbox(context, known)),
    startSandbox: (id, signal) => startSandbox(context, sandboxes.require(id), signal),
    pauseSandbox: (id) => pauseSandbox(context, sandboxes.require(id)),
    resumeSandbox: (id) => resumeSandbox(context, sandboxes.require(id)),
    sandbox: (id) => {
      const known = sandboxes.require(id);
      const view = sandboxView(known, sandboxes.get(known));
      const pausedContainers = pausedIn(context, known);
      return { ...view, info: { ...view.info, pausedContainers, agent: agentView(context, known) } };
    },
    sandboxes: (filter) => listSandboxes(context, filter),
    createContainer: (sandboxId, config, sandboxConfig, signal) =>
      createContainer(context, sandboxes.require(sandboxId), config, sandboxConfig, signal),
    startContainer: (id) => startContainer(context, containers.require(id)),
    stopContainer: (id, timeoutMs, signal) =>
      ifKnown(containers.resolve(id), (known) => stopContainer(context, known, timeoutMs, signal)),
    pauseContainer: (id) => pauseContainer(context, containers.require(id)),
    unpauseContainer: (id) => unpauseContainer(context, containers.require(id)),
    removeContainer: (id) => ifKnown(containers.resolve(id), (known) => removeContainer(context, known)),
    container: (id) => {
      const known = containers.require(id);
      return containerView(known, containers.get(known));
    },
    containers: (filter) => listContainers(context, filter),
    execSync: (id, command, timeoutMs, signal) => execSync(context, containers.require(id), command, timeoutMs, signal),
    streamable: (id) => {
      const known = containers.require(id);
      const { tty, stdin } = requireStreamable(context, known).record;
      return { id: known, tty, stdin };
    },
    forwardable: (id) => {
      const known = sandboxes.require(id);
      requireLive(context, known);
      return { id: known };
    },
    execStream: async (id, request, signal) => await execStream(context, containers.require(id), request, signal),
    attach: async (id, streams, signal) => await attach(context, containers.require(id), streams, signal),
    vmExec: async (id, request, signal) => await vmExec(context, sandboxes.require(id), request, signal),
    sftp: async (id, signal) => await sftp(context, containers.require(id), signal),
    portForward: async (id, port, signal) => await portForward(context, sandboxes.require(id), port, signal),
    reopenLog: async (id) => {
      const known = containers.require(id);
      const live = context.liveContainers.get(known);
      if (!live) throw new CaissonError('failed_precondition', `container ${known} is not running`);
      await live.log?.reopen();
    },
    updateContainerResources: (id, resources, signal) =>
      updateContainerResources(context, containers.require(id), resources, signal),
    updateSandboxResources: (id, asked, signal) =>
      updateSandboxResources(context, sandboxes.require(id), asked, signal),
    setPodCidr,
    stats: statsService(context),
    events: (signal) => context.events.subscribe(signal),
    pool: () => pool.status(),
    [Symbol.asyncDispose]: async () => {
      clocks[Symbol.dispose]();
      await pool[Symbol.asyncDispose]();
      // VMs go on without the daemon; only its connections to them end
      context.closing = true;
      context.sampler[Symbol.dispose]();
      const left = [...context.liveSandboxes.values()].map(async (live) => {
        const { agent, vm, share } = live;
        goOn(live);
        agent[Symbol.dispose]();
        await vm.disconnect();
        await share?.then((started) => started.disconnect());
      });
      await Promise.all(left);
      await Promise.all([...context.liveContainers.values()].map(({ ended }) => ended));
    },
  };
}

/** How quickly the agent answers, as far as is known; null for a sandbox that is not ready. */
function agentView({ liveSandboxes }: PodContext, id: string) {
  const samples = liveSandboxes.get(id)?.samples;
  if (!samples) return null;
  const { roundTripMs, askedMs } = samples;
  return { roundTripMs: roundTripMs ?? null, silentMs: askedMs === undefined ? 0 : performance.now() - askedMs };
}

function pausedIn({ containers }: PodContext, sandboxId: string): string[] {
  const frozen = containers.entries().filter(([, record]) => record.sandboxId === sandboxId && record.paused === true);
  return frozen.map(([id]) => id).toArray();
}
