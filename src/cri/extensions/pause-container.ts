import type { PauseContainerRequest__Output } from '../../../proto/generated/extensions/caisson/v1/PauseContainerRequest.ts';
import type { PauseContainerResponse } from '../../../proto/generated/extensions/caisson/v1/PauseContainerResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function pauseContainer({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<PauseContainerRequest__Output, PauseContainerResponse> {
  return async (request, context) => {
    await pods.pauseContainer(requireText(context, 'container_id', request.container_id));
    return {};
  };
}
