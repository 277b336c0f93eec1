import type { StopContainerRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StopContainerRequest.ts';
import type { StopContainerResponse } from '../../../proto/generated/runtime/runtime/v1/StopContainerResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText, requireTimeoutMs } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function stopContainer({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<StopContainerRequest__Output, StopContainerResponse> {
  return async (request, context) => {
    const id = requireText(context, 'container_id', request.container_id);
    await pods.stopContainer(id, requireTimeoutMs(context, 'timeout', request.timeout), context.signal);
    return {};
  };
}
