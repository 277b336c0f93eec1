import type { ContainerEventResponse } from '../../../proto/generated/runtime/runtime/v1/ContainerEventResponse.ts';
import type { ContainerEventType__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerEventType.ts';
import type { GetEventsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/GetEventsRequest.ts';
import type { PodEvent, PodEventType } from '../../pod/contracts.ts';
import type { CriServices } from '../options.ts';
import type { StreamRpc } from '../stream.ts';
import { toContainerStatus, toPodSandboxStatus } from './messages.ts';

const types: Record<PodEventType, ContainerEventType__Output> = {
  created: 'CONTAINER_CREATED_EVENT',
  started: 'CONTAINER_STARTED_EVENT',
  stopped: 'CONTAINER_STOPPED_EVENT',
  deleted: 'CONTAINER_DELETED_EVENT',
};

/** Each event has the whole pod as it was then, so that the kubelet need not ask. `closing`: the server ends. */
export function getContainerEvents(
  { pods }: Pick<CriServices, 'pods'>,
  closing: AbortSignal,
): StreamRpc<GetEventsRequest__Output, ContainerEventResponse> {
  return async function* (_request, context) {
    for await (const event of pods.events(AbortSignal.any([context.signal, closing]))) yield toResponse(event);
  };
}

function toResponse({ id, type, timestamp, sandbox, containers }: PodEvent): ContainerEventResponse {
  return {
    container_id: id,
    container_event_type: types[type],
    created_at: timestamp,
    pod_sandbox_status: toPodSandboxStatus(sandbox),
    containers_statuses: containers.map(toContainerStatus),
  };
}
