import type { StartPodSandboxRequest__Output } from '../../../proto/generated/extensions/caisson/v1/StartPodSandboxRequest.ts';
import type { StartPodSandboxResponse } from '../../../proto/generated/extensions/caisson/v1/StartPodSandboxResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function startPodSandbox({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<StartPodSandboxRequest__Output, StartPodSandboxResponse> {
  return async (request, context) => {
    await pods.startSandbox(requireText(context, 'pod_sandbox_id', request.pod_sandbox_id), context.signal);
    return {};
  };
}
