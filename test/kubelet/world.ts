import { notStrictEqual } from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BUSYBOX, fillRegistry, startLab } from '../conformance/crictl/world.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { eventually, type Steps } from '../support/steps.ts';
import { startControlPlane, type ControlPlane } from './cluster/control-plane.ts';
import { NODE, startKubelet, type Kubelet } from './cluster/kubelet.ts';
import type { Kubectl } from './cluster/kubectl.ts';

export { BUSYBOX, NODE };
/** for what is to happen: without KVM, and on a machine that has other work, all of it takes long */
export const SLOW_MS = 300_000;
/** what docs/kubelet.md tells people to use */
export const DEPLOY = join(import.meta.dirname, '../../deploy');

/** Everything the steps work with. */
export interface World {
  readonly steps: Steps;
  readonly daemon: TestDaemon;
  readonly plane: ControlPlane;
  readonly kubelet: Kubelet;
  readonly kubectl: Kubectl;
}

/** A daemon whose images come from a registry of its own. */
export async function startDaemon(lab: AsyncDisposableStack): Promise<TestDaemon> {
  const { daemon, registry } = await startLab(lab);
  await fillRegistry(daemon, registry);
  return daemon;
}

export async function startCluster(lab: AsyncDisposableStack, daemon: TestDaemon, signal: AbortSignal) {
  const directory = join(daemon.dir, 'k8s');
  // pods' VMs reach their volumes below it
  await mkdir(directory, { mode: 0o711 });
  const plane = await startControlPlane(lab, directory, signal);
  await prepareNamespace(plane.kubectl);
  return { plane, directory };
}

/** A node that the API server knows, as kubectl shows it. */
export async function startNode(lab: AsyncDisposableStack, directory: string, plane: ControlPlane, daemon: TestDaemon) {
  return startKubelet(lab, directory, plane, daemon);
}

/** What kube-controller-manager would make in each namespace. */
async function prepareNamespace(kubectl: Kubectl): Promise<void> {
  await kubectl.apply(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: 'default' } },
    configMap('kube-root-ca.crt', { 'ca.crt': 'no certificate: nothing in these pods talks to the API server\n' }),
  );
  await kubectl.ok('apply', '-f', join(DEPLOY, 'runtimeclass.yaml'));
}

export function configMap(name: string, data: Readonly<Record<string, string>>): object {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data };
}

export function secret(name: string, stringData: Readonly<Record<string, string>>): object {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace: 'default' }, stringData };
}

export interface PodManifest {
  readonly apiVersion: 'v1';
  readonly kind: 'Pod';
  readonly metadata: { readonly name: string; readonly namespace: string; readonly labels: object };
  readonly spec: object;
}

/** A pod on our node: there is no scheduler. */
export function pod(name: string, spec: object): PodManifest {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels: { app: name } },
    spec: { nodeName: NODE, terminationGracePeriodSeconds: 5, automountServiceAccountToken: false, ...spec },
  };
}

export function container(name: string, script: string, more: object = {}): object {
  return { name, image: BUSYBOX, command: ['sh', '-c', script], ...more };
}

/** Waits until SIGTERM, which ends it with 0. */
export const WAIT = 'trap "exit 0" TERM; while :; do sleep 1 & wait $!; done';

/** As far as the steps read it. */
export interface PodObject {
  readonly metadata: { readonly uid: string; readonly name: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly reason?: string;
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly ephemeralContainerStatuses?: readonly ContainerStatus[];
  };
}

export interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly restartCount: number;
  readonly containerID?: string;
  readonly imageID: string;
  readonly state: ContainerState;
  readonly lastState: ContainerState;
  readonly resources?: { readonly limits?: Readonly<Record<string, string>> };
}

interface ContainerState {
  readonly running?: { readonly startedAt: string };
  readonly waiting?: { readonly reason: string; readonly message?: string };
  readonly terminated?: { readonly exitCode: number; readonly reason: string; readonly message?: string };
}

/** The status of one of its containers, of whichever kind. */
export async function statusOf(kubectl: Kubectl, name: string, wanted: string): Promise<ContainerStatus> {
  const { status } = await kubectl.json<PodObject>('get', 'pod', name);
  const all = [status.containerStatuses, status.initContainerStatuses, status.ephemeralContainerStatuses];
  const found = all.flatMap((statuses) => statuses ?? []).find((one) => one.name === wanted);
  if (found === undefined) throw new Error(`pod ${name} has no status of container ${wanted}`);
  return found;
}

/** Makes a pod for as long as `body` runs; the machine is too small for many at once. */
export async function withPod(kubectl: Kubectl, made: PodManifest, body: () => Promise<void>): Promise<void> {
  await kubectl.apply(made);
  try {
    await body();
  } finally {
    await kubectl.run(['delete', 'pod', made.metadata.name, '--now', '--ignore-not-found', '--timeout=300s']);
  }
}

export async function waitReady(kubectl: Kubectl, name: string): Promise<void> {
  await kubectl.ok('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=300s');
}

export async function waitPhase(kubectl: Kubectl, name: string, phase: string): Promise<void> {
  await kubectl.ok('wait', `--for=jsonpath={.status.phase}=${phase}`, `pod/${name}`, '--timeout=300s');
}

export async function inPod(kubectl: Kubectl, name: string, ...command: string[]): Promise<string> {
  return kubectl.ok('exec', name, '--', ...command);
}

/** Waits for the node's next status of its kubelet. */
export async function heartbeat({ kubectl }: Pick<World, 'kubectl'>): Promise<void> {
  const path = 'jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}';
  const before = await kubectl.ok('get', 'node', NODE, '-o', path);
  await eventually(async () => notStrictEqual(await kubectl.ok('get', 'node', NODE, '-o', path), before), SLOW_MS, 500);
}
