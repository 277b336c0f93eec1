import type { RemoveContainerRequest__Output } from '../../../proto/generated/runtime/runtime/v1/RemoveContainerRequest.ts';
import type { RemoveContainerResponse } from '../../../proto/generated/runtime/runtime/v1/RemoveContainerResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function removeContainer({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<RemoveContainerRequest__Output, RemoveContainerResponse> {
  return async (request, context) => {
    await pods.removeContainer(requireText(context, 'container_id', request.container_id));
    return {};
  };
}
