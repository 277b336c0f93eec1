import type { CreateContainerRequest__Output } from '../../../proto/generated/runtime/runtime/v1/CreateContainerRequest.ts';
import type { CreateContainerResponse } from '../../../proto/generated/runtime/runtime/v1/CreateContainerResponse.ts';
import type { CriServices } from '../options.ts';
import { requireImage, requireMessage, requireText } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function createContainer({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<CreateContainerRequest__Output, CreateContainerResponse> {
  return async (request, context) => {
    const sandboxId = requireText(context, 'pod_sandbox_id', request.pod_sandbox_id);
    const config = requireMessage(context, 'config', request.config);
    const metadata = requireMessage(context, 'config.metadata', config.metadata);
    requireText(context, 'config.metadata.name', metadata.name);
    requireImage(context, 'config.image', config.image);
    const id = await pods.createContainer(sandboxId, config, request.sandbox_config, context.signal);
    return { container_id: id };
  };
}
