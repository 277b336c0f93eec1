import type { PodSandboxStatsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatsRequest.ts';
import type { PodSandboxStatsResponse } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatsResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';
import { toPodSandboxStats } from './stats-messages.ts';

export function podSandboxStats({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<PodSandboxStatsRequest__Output, PodSandboxStatsResponse> {
  return async (request, context) => {
    const id = requireText(context, 'pod_sandbox_id', request.pod_sandbox_id);
    return { stats: toPodSandboxStats(await pods.stats.sandbox(id, context.signal)) };
  };
}
