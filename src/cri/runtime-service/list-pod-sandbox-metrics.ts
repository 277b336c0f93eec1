import type { ListPodSandboxMetricsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListPodSandboxMetricsRequest.ts';
import type { ListPodSandboxMetricsResponse } from '../../../proto/generated/runtime/runtime/v1/ListPodSandboxMetricsResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { toPodSandboxMetrics } from './metrics/messages.ts';

export function listPodSandboxMetrics({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ListPodSandboxMetricsRequest__Output, ListPodSandboxMetricsResponse> {
  return () => ({ pod_metrics: pods.stats.detailed().map(toPodSandboxMetrics) });
}
