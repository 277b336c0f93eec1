import type { ListContainerStatsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListContainerStatsRequest.ts';
import type { ListContainerStatsResponse } from '../../../proto/generated/runtime/runtime/v1/ListContainerStatsResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { containerStatsFilter } from './filters.ts';
import { toContainerStats } from './stats-messages.ts';

export function listContainerStats({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ListContainerStatsRequest__Output, ListContainerStatsResponse> {
  return ({ filter }) => ({ stats: pods.stats.containers(containerStatsFilter(filter)).map(toContainerStats) });
}
