import type { ListContainersRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListContainersRequest.ts';
import type { ListContainersResponse } from '../../../proto/generated/runtime/runtime/v1/ListContainersResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { containerFilter } from './filters.ts';
import { toContainer } from './messages.ts';

export function listContainers({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ListContainersRequest__Output, ListContainersResponse> {
  return (request, context) => ({
    containers: pods.containers(containerFilter(context, request.filter)).map(toContainer),
  });
}
