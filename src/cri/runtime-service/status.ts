import type { RuntimeCondition } from '../../../proto/generated/runtime/runtime/v1/RuntimeCondition.ts';
import type { StatusRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StatusRequest.ts';
import type { StatusResponse } from '../../../proto/generated/runtime/runtime/v1/StatusResponse.ts';
import type { NetworkStatus } from '../../network/contracts.ts';
import { RUNTIME_HANDLERS } from '../../pod/contracts.ts';
import { type CriServices, noFeatures, type RuntimeState } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { verboseInfo } from './messages.ts';

export function status(services: CriServices): Rpc<StatusRequest__Output, StatusResponse> {
  const handlers = services.runtimeHandlers ?? RUNTIME_HANDLERS;
  const features = services.features ?? noFeatures;
  return (request) => {
    const runtime = services.runtime();
    return {
      status: { conditions: [runtimeCondition(runtime), networkCondition(services.network())] },
      info: verboseInfo(request.verbose, { version: services.version, ...runtime.info }),
      runtime_handlers: handlers.map((name) => ({
        name,
        features: {
          recursive_read_only_mounts: features.recursiveReadOnlyMounts,
          user_namespaces: features.userNamespaces,
        },
      })),
      features: { supplemental_groups_policy: features.supplementalGroupsPolicy },
    };
  };
}

function runtimeCondition({ ready, reason, message }: RuntimeState): RuntimeCondition {
  return { type: 'RuntimeReady', status: ready, reason, message };
}

function networkCondition(network: NetworkStatus): RuntimeCondition {
  if (network.ready) return { type: 'NetworkReady', status: true };
  return { type: 'NetworkReady', status: false, reason: network.reason, message: network.message };
}
