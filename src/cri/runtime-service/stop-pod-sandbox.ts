import type { StopPodSandboxRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StopPodSandboxRequest.ts';
import type { StopPodSandboxResponse } from '../../../proto/generated/runtime/runtime/v1/StopPodSandboxResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function stopPodSandbox({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<StopPodSandboxRequest__Output, StopPodSandboxResponse> {
  return async (request, context) => {
    await pods.stopSandbox(requireText(context, 'pod_sandbox_id', request.pod_sandbox_id));
    return {};
  };
}
