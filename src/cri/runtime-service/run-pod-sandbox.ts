import type { RunPodSandboxRequest__Output } from '../../../proto/generated/runtime/runtime/v1/RunPodSandboxRequest.ts';
import type { RunPodSandboxResponse } from '../../../proto/generated/runtime/runtime/v1/RunPodSandboxResponse.ts';
import { RUNTIME_HANDLERS } from '../../pod/contracts.ts';
import type { CriServices } from '../options.ts';
import { malformed, requireMessage, requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function runPodSandbox(
  services: Pick<CriServices, 'pods' | 'runtimeHandlers'>,
): Rpc<RunPodSandboxRequest__Output, RunPodSandboxResponse> {
  const known = services.runtimeHandlers ?? RUNTIME_HANDLERS;
  return async (request, context) => {
    const config = requireMessage(context, 'config', request.config);
    const metadata = requireMessage(context, 'config.metadata', config.metadata);
    requireText(context, 'config.metadata.name', metadata.name);
    requireText(context, 'config.metadata.namespace', metadata.namespace);
    requireText(context, 'config.metadata.uid', metadata.uid);
    const handler = request.runtime_handler;
    if (!known.includes(handler)) {
      const names = known.map((name) => JSON.stringify(name)).join(', ');
      throw malformed(context, `runtime_handler ${JSON.stringify(handler)} is none of ${names}`);
    }
    return { pod_sandbox_id: await services.pods.runSandbox(config, handler, context.signal) };
  };
}
