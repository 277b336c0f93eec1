import type { UpdateContainerResourcesRequest__Output } from '../../../proto/generated/runtime/runtime/v1/UpdateContainerResourcesRequest.ts';
import type { UpdateContainerResourcesResponse } from '../../../proto/generated/runtime/runtime/v1/UpdateContainerResourcesResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function updateContainerResources({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<UpdateContainerResourcesRequest__Output, UpdateContainerResourcesResponse> {
  return async (request, context) => {
    const id = requireText(context, 'container_id', request.container_id);
    if (request.linux) await pods.updateContainerResources(id, request.linux, context.signal);
    return {};
  };
}
