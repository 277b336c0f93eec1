import type { UnpauseContainerRequest__Output } from '../../../proto/generated/extensions/caisson/v1/UnpauseContainerRequest.ts';
import type { UnpauseContainerResponse } from '../../../proto/generated/extensions/caisson/v1/UnpauseContainerResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function unpauseContainer({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<UnpauseContainerRequest__Output, UnpauseContainerResponse> {
  return async (request, context) => {
    await pods.unpauseContainer(requireText(context, 'container_id', request.container_id));
    return {};
  };
}
