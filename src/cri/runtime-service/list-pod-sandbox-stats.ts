import type { ListPodSandboxStatsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListPodSandboxStatsRequest.ts';
import type { ListPodSandboxStatsResponse } from '../../../proto/generated/runtime/runtime/v1/ListPodSandboxStatsResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { sandboxStatsFilter } from './filters.ts';
import { toPodSandboxStats } from './stats-messages.ts';

export function listPodSandboxStats({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ListPodSandboxStatsRequest__Output, ListPodSandboxStatsResponse> {
  return ({ filter }) => ({ stats: pods.stats.sandboxes(sandboxStatsFilter(filter)).map(toPodSandboxStats) });
}
