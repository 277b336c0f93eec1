import type { StartContainerRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StartContainerRequest.ts';
import type { StartContainerResponse } from '../../../proto/generated/runtime/runtime/v1/StartContainerResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function startContainer({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<StartContainerRequest__Output, StartContainerResponse> {
  return async (request, context) => {
    await pods.startContainer(requireText(context, 'container_id', request.container_id), context.signal);
    return {};
  };
}
