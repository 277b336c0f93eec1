import type { StreamPodSandboxesRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StreamPodSandboxesRequest.ts';
import type { StreamPodSandboxesResponse } from '../../../proto/generated/runtime/runtime/v1/StreamPodSandboxesResponse.ts';
import type { CriServices } from '../options.ts';
import { inMessages, type StreamRpc } from '../stream.ts';
import { sandboxFilter } from './filters.ts';
import { toPodSandbox } from './messages.ts';

export function streamPodSandboxes({
  pods,
}: Pick<CriServices, 'pods'>): StreamRpc<StreamPodSandboxesRequest__Output, StreamPodSandboxesResponse> {
  return function* (request, context) {
    const items = pods.sandboxes(sandboxFilter(context, request.filter)).map(toPodSandbox);
    for (const pod_sandboxes of inMessages(items)) yield { pod_sandboxes };
  };
}
