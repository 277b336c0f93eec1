import type { ExecSyncRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ExecSyncRequest.ts';
import type { ExecSyncResponse } from '../../../proto/generated/runtime/runtime/v1/ExecSyncResponse.ts';
import type { CriServices } from '../options.ts';
import { malformed, requireText, requireTimeoutMs } from '../require.ts';
import type { Rpc } from '../unary.ts';

/** A command that fails is a normal answer; one that takes too long is DEADLINE_EXCEEDED. */
export function execSync({ pods }: Pick<CriServices, 'pods'>): Rpc<ExecSyncRequest__Output, ExecSyncResponse> {
  return async (request, context) => {
    const id = requireText(context, 'container_id', request.container_id);
    if (request.cmd.length === 0) throw malformed(context, 'cmd is empty');
    const timeoutMs = requireTimeoutMs(context, 'timeout', request.timeout);
    const { stdout, stderr, exitCode } = await pods.execSync(id, request.cmd, timeoutMs, context.signal);
    return { stdout, stderr, exit_code: exitCode };
  };
}
