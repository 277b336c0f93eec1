import type { AttachRequest__Output } from '../../../proto/generated/runtime/runtime/v1/AttachRequest.ts';
import type { AttachResponse } from '../../../proto/generated/runtime/runtime/v1/AttachResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

/** Answers where the container's streams can be joined, once; the streaming server checks the request. */
export function attach({ streaming }: Pick<CriServices, 'streaming'>): Rpc<AttachRequest__Output, AttachResponse> {
  return (request, context) => {
    const containerId = requireText(context, 'container_id', request.container_id);
    const { tty, stdin, stdout, stderr } = request;
    return { url: streaming.attachUrl({ containerId, tty, stdin, stdout, stderr }) };
  };
}
