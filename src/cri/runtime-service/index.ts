import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { RuntimeServiceHandlers } from '../../../proto/generated/runtime/runtime/v1/RuntimeService.ts';
import type { Logger } from '../../lib/logger.ts';
import type { RpcKind } from '../call.ts';
import type { CriServices } from '../options.ts';
import { serverStream, type StreamRpc } from '../stream.ts';
import { unary, type Rpc } from '../unary.ts';
import { attach } from './attach.ts';
import { containerStats } from './container-stats.ts';
import { containerStatus } from './container-status.ts';
import { createContainer } from './create-container.ts';
import { execSync } from './exec-sync.ts';
import { exec } from './exec.ts';
import { getContainerEvents } from './get-container-events.ts';
import { listContainerStats } from './list-container-stats.ts';
import { listContainers } from './list-containers.ts';
import { listMetricDescriptors } from './list-metric-descriptors.ts';
import { listPodSandboxMetrics } from './list-pod-sandbox-metrics.ts';
import { listPodSandboxStats } from './list-pod-sandbox-stats.ts';
import { listPodSandbox } from './list-pod-sandbox.ts';
import { podSandboxStats } from './pod-sandbox-stats.ts';
import { podSandboxStatus } from './pod-sandbox-status.ts';
import { portForward } from './port-forward.ts';
import { removeContainer } from './remove-container.ts';
import { removePodSandbox } from './remove-pod-sandbox.ts';
import { reopenContainerLog } from './reopen-container-log.ts';
import { runPodSandbox } from './run-pod-sandbox.ts';
import { runtimeConfig } from './runtime-config.ts';
import { startContainer } from './start-container.ts';
import { status } from './status.ts';
import { stopContainer } from './stop-container.ts';
import { stopPodSandbox } from './stop-pod-sandbox.ts';
import { streamContainerStats } from './stream-container-stats.ts';
import { streamContainers } from './stream-containers.ts';
import { streamPodSandboxMetrics } from './stream-pod-sandbox-metrics.ts';
import { streamPodSandboxStats } from './stream-pod-sandbox-stats.ts';
import { streamPodSandboxes } from './stream-pod-sandboxes.ts';
import { updateContainerResources } from './update-container-resources.ts';
import { updatePodSandboxResources } from './update-pod-sandbox-resources.ts';
import { updateRuntimeConfig } from './update-runtime-config.ts';
import { version } from './version.ts';

/** The handlers of the RPCs of RuntimeService that Caisson implements; `closing` ends those that never end. */
export function runtimeService(services: CriServices, log: Logger, closing: AbortSignal): UntypedServiceImplementation {
  const handle = <Q extends object, A extends object>(kind: RpcKind, rpc: Rpc<Q, A>) => unary(kind, log, rpc);
  const stream = <Q extends object, A extends object>(rpc: StreamRpc<Q, A>) => serverStream(log, rpc);
  return {
    Version: handle('read', version(services)),
    Status: handle('read', status(services)),
    RuntimeConfig: handle('read', runtimeConfig(services)),
    UpdateRuntimeConfig: handle('change', updateRuntimeConfig(services)),

    RunPodSandbox: handle('change', runPodSandbox(services)),
    StopPodSandbox: handle('change', stopPodSandbox(services)),
    RemovePodSandbox: handle('change', removePodSandbox(services)),
    UpdatePodSandboxResources: handle('change', updatePodSandboxResources(services)),
    PodSandboxStatus: handle('read', podSandboxStatus(services)),
    ListPodSandbox: handle('read', listPodSandbox(services)),
    StreamPodSandboxes: stream(streamPodSandboxes(services)),

    CreateContainer: handle('change', createContainer(services)),
    StartContainer: handle('change', startContainer(services)),
    StopContainer: handle('change', stopContainer(services)),
    RemoveContainer: handle('change', removeContainer(services)),
    UpdateContainerResources: handle('change', updateContainerResources(services)),
    ContainerStatus: handle('read', containerStatus(services)),
    ListContainers: handle('read', listContainers(services)),
    StreamContainers: stream(streamContainers(services)),

    GetContainerEvents: stream(getContainerEvents(services, closing)),

    ContainerStats: handle('read', containerStats(services)),
    ListContainerStats: handle('read', listContainerStats(services)),
    StreamContainerStats: stream(streamContainerStats(services)),
    PodSandboxStats: handle('read', podSandboxStats(services)),
    ListPodSandboxStats: handle('read', listPodSandboxStats(services)),
    StreamPodSandboxStats: stream(streamPodSandboxStats(services)),
    ListMetricDescriptors: handle('read', listMetricDescriptors()),
    ListPodSandboxMetrics: handle('read', listPodSandboxMetrics(services)),
    StreamPodSandboxMetrics: stream(streamPodSandboxMetrics(services)),

    ExecSync: handle('change', execSync(services)),
    Exec: handle('change', exec(services)),
    Attach: handle('change', attach(services)),
    PortForward: handle('change', portForward(services)),
    ReopenContainerLog: handle('change', reopenContainerLog(services)),
  } satisfies Partial<RuntimeServiceHandlers>;
}
