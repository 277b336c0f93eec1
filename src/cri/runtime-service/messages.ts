/** Pod sandboxes and containers as CRI messages. Lists and maps are copies: the pod service's own stay its own. */
import type { Container } from '../../../proto/generated/runtime/runtime/v1/Container.ts';
import type { ContainerState__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerState.ts';
import type { ContainerStatus } from '../../../proto/generated/runtime/runtime/v1/ContainerStatus.ts';
import type { PodSandbox } from '../../../proto/generated/runtime/runtime/v1/PodSandbox.ts';
import type { PodSandboxState__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxState.ts';
import type { PodSandboxStatus } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatus.ts';
import type { Signal__Output } from '../../../proto/generated/runtime/runtime/v1/Signal.ts';
import type { ContainerState, ContainerView, SandboxState, SandboxView } from '../../pod/contracts.ts';

const sandboxStates: Record<SandboxState, PodSandboxState__Output> = {
  ready: 'SANDBOX_READY',
  notready: 'SANDBOX_NOTREADY',
};

const containerStates: Record<ContainerState, ContainerState__Output> = {
  created: 'CONTAINER_CREATED',
  running: 'CONTAINER_RUNNING',
  exited: 'CONTAINER_EXITED',
  unknown: 'CONTAINER_UNKNOWN',
};

export function toPodSandbox(view: SandboxView): PodSandbox {
  return {
    id: view.id,
    metadata: view.metadata,
    state: sandboxStates[view.state],
    created_at: view.createdAt,
    labels: { ...view.labels },
    annotations: { ...view.annotations },
    runtime_handler: view.runtimeHandler,
  };
}

export function toPodSandboxStatus(view: SandboxView): PodSandboxStatus {
  const [ip = '', ...others] = view.ips;
  return {
    ...toPodSandbox(view),
    network: { ip, additional_ips: others.map((other) => ({ ip: other })) },
    linux: { namespaces: { options: view.namespaceOptions } },
  };
}

export function toContainer(view: ContainerView): Container {
  return {
    id: view.id,
    pod_sandbox_id: view.sandboxId,
    metadata: view.metadata,
    image: { image: view.image },
    image_ref: view.imageId,
    image_id: view.imageId,
    state: containerStates[view.state],
    created_at: view.createdAt,
    labels: { ...view.labels },
    annotations: { ...view.annotations },
  };
}

/** Mounts are the caller's own and no others: the kubelet looks its termination log up in them. */
export function toContainerStatus(view: ContainerView): ContainerStatus {
  const { uid, gid, supplementalGroups } = view.user;
  return {
    id: view.id,
    metadata: view.metadata,
    state: containerStates[view.state],
    created_at: view.createdAt,
    started_at: view.startedAt,
    finished_at: view.finishedAt,
    exit_code: view.exitCode,
    reason: view.reason,
    message: view.message,
    image: { image: view.image },
    image_ref: view.imageId,
    image_id: view.imageId,
    labels: { ...view.labels },
    annotations: { ...view.annotations },
    mounts: [...view.mounts],
    log_path: view.logPath,
    resources: view.resources && { linux: view.resources },
    user: { linux: { uid, gid, supplemental_groups: [...supplementalGroups] } },
    // a name that the enum does not have is encoded as RUNTIME_DEFAULT
    stop_signal: view.stopSignal as Signal__Output,
  };
}

/** The `info` map of verbose answers: crictl prints the JSON below `info`. */
export function verboseInfo(verbose: boolean, info: object): Record<string, string> {
  return verbose ? { info: JSON.stringify(info) } : {};
}
