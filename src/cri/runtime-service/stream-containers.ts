import type { StreamContainersRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StreamContainersRequest.ts';
import type { StreamContainersResponse } from '../../../proto/generated/runtime/runtime/v1/StreamContainersResponse.ts';
import type { CriServices } from '../options.ts';
import { inMessages, type StreamRpc } from '../stream.ts';
import { containerFilter } from './filters.ts';
import { toContainer } from './messages.ts';

export function streamContainers({
  pods,
}: Pick<CriServices, 'pods'>): StreamRpc<StreamContainersRequest__Output, StreamContainersResponse> {
  return function* (request, context) {
    const items = pods.containers(containerFilter(context, request.filter)).map(toContainer);
    for (const containers of inMessages(items)) yield { containers };
  };
}
