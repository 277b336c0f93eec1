import type { ResumePodRequest__Output } from '../../../proto/generated/extensions/caisson/v1/ResumePodRequest.ts';
import type { ResumePodResponse } from '../../../proto/generated/extensions/caisson/v1/ResumePodResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function resumePod({ pods }: Pick<CriServices, 'pods'>): Rpc<ResumePodRequest__Output, ResumePodResponse> {
  return async (request, context) => {
    await pods.resumeSandbox(requireText(context, 'pod_sandbox_id', request.pod_sandbox_id));
    return {};
  };
}
