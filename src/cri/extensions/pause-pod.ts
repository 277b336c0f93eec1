import type { PausePodRequest__Output } from '../../../proto/generated/extensions/caisson/v1/PausePodRequest.ts';
import type { PausePodResponse } from '../../../proto/generated/extensions/caisson/v1/PausePodResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function pausePod({ pods }: Pick<CriServices, 'pods'>): Rpc<PausePodRequest__Output, PausePodResponse> {
  return async (request, context) => {
    await pods.pauseSandbox(requireText(context, 'pod_sandbox_id', request.pod_sandbox_id));
    return {};
  };
}
