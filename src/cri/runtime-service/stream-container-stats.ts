import type { StreamContainerStatsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StreamContainerStatsRequest.ts';
import type { StreamContainerStatsResponse } from '../../../proto/generated/runtime/runtime/v1/StreamContainerStatsResponse.ts';
import type { CriServices } from '../options.ts';
import { inMessages, type StreamRpc } from '../stream.ts';
import { containerStatsFilter } from './filters.ts';
import { toContainerStats } from './stats-messages.ts';

export function streamContainerStats({
  pods,
}: Pick<CriServices, 'pods'>): StreamRpc<StreamContainerStatsRequest__Output, StreamContainerStatsResponse> {
  return function* ({ filter }) {
    const items = pods.stats.containers(containerStatsFilter(filter)).map(toContainerStats);
    for (const container_stats of inMessages(items)) yield { container_stats };
  };
}
