import type { PodSandboxStatusRequest__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatusRequest.ts';
import type { PodSandboxStatusResponse } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatusResponse.ts';
import type { ContainerView } from '../../pod/contracts.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import { nowNs } from '../time.ts';
import type { Rpc } from '../unary.ts';
import { toContainerStatus, toPodSandboxStatus, verboseInfo } from './messages.ts';

/**
 * One snapshot of the sandbox with its containers, taken at `timestamp`. The youngest come first: a kubelet with EventedPLEG takes
 * the first of a name for the one that counts (v1.36.0, pkg/kubelet/kuberuntime/kuberuntime_manager.go, GetPodStatus).
 */
export function podSandboxStatus({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<PodSandboxStatusRequest__Output, PodSandboxStatusResponse> {
  return (request, context) => {
    const view = pods.sandbox(requireText(context, 'pod_sandbox_id', request.pod_sandbox_id));
    return {
      status: toPodSandboxStatus(view),
      info: verboseInfo(request.verbose, view.info),
      containers_statuses: pods.containers({ sandboxId: view.id }).toSorted(youngestFirst).map(toContainerStatus),
      timestamp: nowNs(),
    };
  };
}

const youngestFirst = (a: ContainerView, b: ContainerView): number =>
  BigInt(a.createdAt) < BigInt(b.createdAt) ? 1 : -1;
