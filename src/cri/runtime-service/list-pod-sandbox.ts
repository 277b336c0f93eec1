import type { ListPodSandboxRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListPodSandboxRequest.ts';
import type { ListPodSandboxResponse } from '../../../proto/generated/runtime/runtime/v1/ListPodSandboxResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { sandboxFilter } from './filters.ts';
import { toPodSandbox } from './messages.ts';

export function listPodSandbox({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<ListPodSandboxRequest__Output, ListPodSandboxResponse> {
  return (request, context) => ({
    items: pods.sandboxes(sandboxFilter(context, request.filter)).map(toPodSandbox),
  });
}
