import type { ContainerStatsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerStatsRequest.ts';
import type { ContainerStatsResponse } from '../../../proto/generated/runtime/runtime/v1/ContainerStatsResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';
import { toContainerStats } from './stats-messages.ts';

export function containerStats({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ContainerStatsRequest__Output, ContainerStatsResponse> {
  return async (request, context) => {
    const id = requireText(context, 'container_id', request.container_id);
    return { stats: toContainerStats(await pods.stats.container(id, context.signal)) };
  };
}
