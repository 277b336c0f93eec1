/** Filters of the List RPCs. Empty fields select everything, as in every CRI runtime. */
import type { ContainerFilter__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerFilter.ts';
import type { ContainerState__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerState.ts';
import type { ContainerStatsFilter__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerStatsFilter.ts';
import type { PodSandboxStatsFilter__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatsFilter.ts';
import type { PodSandboxFilter__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxFilter.ts';
import type { PodSandboxState__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxState.ts';
import type { ContainerFilter, ContainerState, SandboxFilter, SandboxState } from '../../pod/contracts.ts';
import type { RpcContext } from '../call.ts';
import { requireKnown } from '../require.ts';

const sandboxStates: Record<PodSandboxState__Output, SandboxState> = {
  SANDBOX_READY: 'ready',
  SANDBOX_NOTREADY: 'notready',
};

const containerStates: Record<ContainerState__Output, ContainerState> = {
  CONTAINER_CREATED: 'created',
  CONTAINER_RUNNING: 'running',
  CONTAINER_EXITED: 'exited',
  CONTAINER_UNKNOWN: 'unknown',
};

export function sandboxFilter(context: RpcContext, filter: PodSandboxFilter__Output | null): SandboxFilter {
  if (!filter) return {};
  const { id, state, label_selector } = filter;
  return {
    ...(id && { id }),
    ...(state && { state: requireKnown(context, 'filter.state.state', sandboxStates, state.state) }),
    ...(hasEntries(label_selector) && { labels: label_selector }),
  };
}

export function containerFilter(context: RpcContext, filter: ContainerFilter__Output | null): ContainerFilter {
  if (!filter) return {};
  const { id, pod_sandbox_id, state, label_selector } = filter;
  return {
    ...(id && { id }),
    ...(pod_sandbox_id && { sandboxId: pod_sandbox_id }),
    ...(state && { state: requireKnown(context, 'filter.state.state', containerStates, state.state) }),
    ...(hasEntries(label_selector) && { labels: label_selector }),
  };
}

export function containerStatsFilter(filter: ContainerStatsFilter__Output | null): ContainerFilter {
  if (!filter) return {};
  const { id, pod_sandbox_id, label_selector } = filter;
  return {
    ...(id && { id }),
    ...(pod_sandbox_id && { sandboxId: pod_sandbox_id }),
    ...(hasEntries(label_selector) && { labels: label_selector }),
  };
}

export function sandboxStatsFilter(filter: PodSandboxStatsFilter__Output | null): SandboxFilter {
  if (!filter) return {};
  const { id, label_selector } = filter;
  return { ...(id && { id }), ...(hasEntries(label_selector) && { labels: label_selector }) };
}

function hasEntries(map: Record<string, string>): boolean {
  return Object.keys(map).length > 0;
}
