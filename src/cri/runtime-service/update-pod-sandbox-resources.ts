import type { UpdatePodSandboxResourcesRequest__Output } from '../../../proto/generated/runtime/runtime/v1/UpdatePodSandboxResourcesRequest.ts';
import type { UpdatePodSandboxResourcesResponse } from '../../../proto/generated/runtime/runtime/v1/UpdatePodSandboxResourcesResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function updatePodSandboxResources({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<UpdatePodSandboxResourcesRequest__Output, UpdatePodSandboxResourcesResponse> {
  return async ({ pod_sandbox_id, resources, overhead }, context) => {
    const id = requireText(context, 'pod_sandbox_id', pod_sandbox_id);
    await pods.updateSandboxResources(id, { resources, overhead }, context.signal);
    return {};
  };
}
