import type { PortForwardRequest__Output } from '../../../proto/generated/runtime/runtime/v1/PortForwardRequest.ts';
import type { PortForwardResponse } from '../../../proto/generated/runtime/runtime/v1/PortForwardResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

/** Answers where the pod's ports can be reached, once; the streaming server checks the request. */
export function portForward({
  streaming,
}: Pick<CriServices, 'streaming'>): Rpc<PortForwardRequest__Output, PortForwardResponse> {
  return (request, context) => {
    const sandboxId = requireText(context, 'pod_sandbox_id', request.pod_sandbox_id);
    return { url: streaming.portForwardUrl({ sandboxId, ports: request.port }) };
  };
}
