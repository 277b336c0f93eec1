import type { ContainerStatusRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerStatusRequest.ts';
import type { ContainerStatusResponse } from '../../../proto/generated/runtime/runtime/v1/ContainerStatusResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';
import { toContainerStatus, verboseInfo } from './messages.ts';

export function containerStatus({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ContainerStatusRequest__Output, ContainerStatusResponse> {
  return (request, context) => {
    const view = pods.container(requireText(context, 'container_id', request.container_id));
    return { status: toContainerStatus(view), info: verboseInfo(request.verbose, view.info) };
  };
}
