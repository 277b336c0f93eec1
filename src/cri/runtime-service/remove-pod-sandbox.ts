import type { RemovePodSandboxRequest__Output } from '../../../proto/generated/runtime/runtime/v1/RemovePodSandboxRequest.ts';
import type { RemovePodSandboxResponse } from '../../../proto/generated/runtime/runtime/v1/RemovePodSandboxResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function removePodSandbox({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<RemovePodSandboxRequest__Output, RemovePodSandboxResponse> {
  return async (request, context) => {
    await pods.removeSandbox(requireText(context, 'pod_sandbox_id', request.pod_sandbox_id));
    return {};
  };
}
