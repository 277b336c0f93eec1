import type { StreamPodSandboxMetricsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StreamPodSandboxMetricsRequest.ts';
import type { StreamPodSandboxMetricsResponse } from '../../../proto/generated/runtime/runtime/v1/StreamPodSandboxMetricsResponse.ts';
import type { CriServices } from '../options.ts';
import type { StreamRpc } from '../stream.ts';
import { toPodSandboxMetrics } from './metrics/messages.ts';

/** A pod a message: each has hundreds of numbers. */
export function streamPodSandboxMetrics({
  pods,
}: Pick<CriServices, 'pods'>): StreamRpc<StreamPodSandboxMetricsRequest__Output, StreamPodSandboxMetricsResponse> {
  return function* () {
    for (const view of pods.stats.detailed()) yield { pod_sandbox_metrics: [toPodSandboxMetrics(view)] };
  };
}
