import type { StreamPodSandboxStatsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StreamPodSandboxStatsRequest.ts';
import type { StreamPodSandboxStatsResponse } from '../../../proto/generated/runtime/runtime/v1/StreamPodSandboxStatsResponse.ts';
import type { CriServices } from '../options.ts';
import { inMessages, type StreamRpc } from '../stream.ts';
import { sandboxStatsFilter } from './filters.ts';
import { toPodSandboxStats } from './stats-messages.ts';

export function streamPodSandboxStats({
  pods,
}: Pick<CriServices, 'pods'>): StreamRpc<StreamPodSandboxStatsRequest__Output, StreamPodSandboxStatsResponse> {
  return function* ({ filter }) {
    const items = pods.stats.sandboxes(sandboxStatsFilter(filter)).map(toPodSandboxStats);
    for (const pod_sandbox_stats of inMessages(items)) yield { pod_sandbox_stats };
  };
}
