import type { ExecRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ExecRequest.ts';
import type { ExecResponse } from '../../../proto/generated/runtime/runtime/v1/ExecResponse.ts';
import type { CriServices } from '../options.ts';
import { requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

/** Answers where the command can be run, once; the streaming server checks the request. */
export function exec({ streaming }: Pick<CriServices, 'streaming'>): Rpc<ExecRequest__Output, ExecResponse> {
  return (request, context) => {
    const containerId = requireText(context, 'container_id', request.container_id);
    const { cmd: command, tty, stdin, stdout, stderr } = request;
    return { url: streaming.execUrl({ containerId, command, tty, stdin, stdout, stderr }) };
  };
}
