import type { ReopenContainerLogRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ReopenContainerLogRequest.ts';
import type { ReopenContainerLogResponse } from '../../../proto/generated/runtime/runtime/v1/ReopenContainerLogResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function reopenContainerLog({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ReopenContainerLogRequest__Output, ReopenContainerLogResponse> {
  return async (request, context) => {
    await pods.reopenLog(requireText(context, 'container_id', request.container_id));
    return {};
  };
}
