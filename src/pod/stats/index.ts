import type { LiveSandbox, PodContext } from '../context.ts';
import type { ContainerFilter, SandboxFilter } from '../contracts.ts';
import { listContainers, listSandboxes } from '../lists.ts';
import { containerView, sandboxView } from '../records.ts';
import type { ContainerStatsView, SandboxStatsView, StatsService } from './contracts.ts';
import { containerStats, sandboxStats } from './views.ts';

/** The statistics that the edges ask for, from the samples of the live sandboxes. */
export function statsService(context: PodContext): StatsService {
  const { sandboxes, containers, sampler } = context;
  const live = (sandboxId: string): LiveSandbox | undefined => context.liveSandboxes.get(sandboxId);
  const ofContainer = (id: string): ContainerStatsView => {
    const record = containers.get(id);
    return containerStats(containerView(id, record), live(record.sandboxId)?.samples, context.storage.directory);
  };
  /** false also for one that is removed meanwhile */
  const hasSample = (id: string): boolean => containers.has(id) && ofContainer(id).sample !== null;
  const running = (filter: ContainerFilter): ContainerStatsView[] =>
    listContainers(context, { ...filter, state: 'running' }).map(({ id }) => ofContainer(id));
  const ofSandbox = (id: string): SandboxStatsView =>
    sandboxStats(sandboxView(id, sandboxes.get(id)), running({ sandboxId: id }), live(id)?.samples);
  const ready = (filter: SandboxFilter): SandboxStatsView[] =>
    listSandboxes(context, { ...filter, state: 'ready' }).map(({ id }) => ofSandbox(id));
  const freshen = async (sandboxId: string, isKnown: () => boolean, signal: AbortSignal): Promise<void> => {
    const vm = live(sandboxId);
    if (vm) await sampler.fresh(vm, isKnown, signal);
  };
  return {
    container: async (id, signal) => {
      const known = containers.require(id);
      const { state, sandboxId } = containers.get(known);
      if (state === 'running') await freshen(sandboxId, () => hasSample(known), signal);
      return ofContainer(containers.require(known));
    },
    containers: (filter) => {
      sampler.wanted({ details: false });
      return running(filter);
    },
    sandbox: async (id, signal) => {
      const known = sandboxes.require(id);
      await freshen(known, () => live(known)?.samples.latest !== undefined, signal);
      return ofSandbox(sandboxes.require(known));
    },
    sandboxes: (filter) => {
      sampler.wanted({ details: false });
      return ready(filter);
    },
    detailed: () => {
      sampler.wanted({ details: true });
      return ready({});
    },
  };
}
