import type { UpdateRuntimeConfigRequest__Output } from '../../../proto/generated/runtime/runtime/v1/UpdateRuntimeConfigRequest.ts';
import type { UpdateRuntimeConfigResponse } from '../../../proto/generated/runtime/runtime/v1/UpdateRuntimeConfigResponse.ts';
import type { CriServices } from '../options.ts';
import { requireCidrs } from '../require.ts';
import type { Rpc } from '../unary.ts';

/** A message without a CIDR changes nothing. */
export function updateRuntimeConfig({
  pods,
}: Pick<CriServices, 'pods'>): Rpc<UpdateRuntimeConfigRequest__Output, UpdateRuntimeConfigResponse> {
  return (request, context) => {
    const cidr = request.runtime_config?.network_config?.pod_cidr ?? '';
    if (cidr !== '') pods.setPodCidr(requireCidrs(context, 'runtime_config.network_config.pod_cidr', cidr));
    return {};
  };
}
