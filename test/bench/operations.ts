import { join } from 'node:path';
import type { CallOptions } from '../../src/lib/grpc/cri-client.ts';
import type { Peer } from './peer.ts';

export const IMAGE = 'caisson.bench/busybox:latest';
export const PAUSE_IMAGE = 'caisson.bench/pause:latest';

export const OPERATIONS = [
  'RunPodSandbox',
  'CreateContainer+StartContainer',
  'ExecSync',
  'StopPodSandbox+RemovePodSandbox',
] as const;
export type Operation = (typeof OPERATIONS)[number];

/** `ms` of each time that an operation was done. */
export type Samples = Readonly<Record<Operation, readonly number[]>>;

/** A pod with a container that sleeps. */
export interface RunningPod {
  readonly podId: string;
  readonly containerId: string;
  readonly config: ReturnType<typeof podConfig>;
}

/** the container that every pod begins with */
export const SLEEPER = 'sleeper';
const EXECS = 3;
let serial = 0;

/**
 * The whole life of `count` pods, each operation done for all of them at once; the time is that until the last one has
 * its answer. A lone pod gets a few ExecSyncs, because the first is not like the others.
 */
export async function livePods(peer: Peer, count: number, signal: AbortSignal): Promise<Samples> {
  const call: CallOptions = { signal };
  const { runtime } = peer.cri;
  const configs = Array.from({ length: count }, () => podConfig(peer));
  const [run, pods] = await timed(() =>
    all(configs, async (config) => ({ config, ...(await runtime.RunPodSandbox({ config }, call)) })),
  );
  const [start, containers] = await timed(() => all(pods, (pod) => startContainer(peer, pod, call)));
  const exec: number[] = [];
  for (let i = 0; i < (count === 1 ? EXECS : 1); i++) {
    const [ms] = await timed(() => all(containers, (id) => execTrue(peer, id, call)));
    exec.push(ms);
  }
  const [end] = await timed(() => all(pods, ({ pod_sandbox_id }) => endPod(peer, pod_sandbox_id, call)));
  return {
    RunPodSandbox: [run],
    'CreateContainer+StartContainer': [start],
    ExecSync: exec,
    'StopPodSandbox+RemovePodSandbox': [end],
  };
}

/** A pod that stays, with a container that sleeps. */
export async function startIdlePod(peer: Peer, signal: AbortSignal): Promise<RunningPod> {
  const config = podConfig(peer);
  const { pod_sandbox_id } = await peer.cri.runtime.RunPodSandbox({ config }, { signal });
  const containerId = await startContainer(peer, { config, pod_sandbox_id }, { signal });
  return { podId: pod_sandbox_id, containerId, config };
}

/** Another container that sleeps. */
export async function addContainer(
  peer: Peer,
  { podId: pod_sandbox_id, config }: RunningPod,
  name: string,
  call: CallOptions,
): Promise<string> {
  return await startContainer(peer, { config, pod_sandbox_id }, call, name);
}

export async function endPod({ cri: { runtime } }: Peer, pod_sandbox_id: string, call: CallOptions): Promise<void> {
  await runtime.StopPodSandbox({ pod_sandbox_id }, call);
  await runtime.RemovePodSandbox({ pod_sandbox_id }, call);
}

function podConfig(peer: Peer) {
  const name = `bench-${++serial}`;
  return {
    metadata: { name, namespace: 'default', uid: `uid-${name}`, attempt: 0 },
    hostname: name,
    log_directory: join(peer.dir, 'logs', name),
    linux: { cgroup_parent: peer.cgroupParent },
  };
}

interface Sandbox {
  readonly config: ReturnType<typeof podConfig>;
  readonly pod_sandbox_id: string;
}

async function startContainer(
  { cri: { runtime } }: Peer,
  pod: Sandbox,
  call: CallOptions,
  name = SLEEPER,
): Promise<string> {
  const config = {
    metadata: { name, attempt: 0 },
    image: { image: IMAGE },
    command: ['sleep', '1000000'],
    log_path: `${name}.log`,
    linux: {},
  };
  const request = { pod_sandbox_id: pod.pod_sandbox_id, sandbox_config: pod.config, config };
  const { container_id } = await runtime.CreateContainer(request, call);
  await runtime.StartContainer({ container_id }, call);
  return container_id;
}

async function execTrue({ cri: { runtime }, name }: Peer, container_id: string, call: CallOptions): Promise<void> {
  const { exit_code } = await runtime.ExecSync({ container_id, cmd: ['true'], timeout: 60 }, call);
  if (exit_code !== 0) throw new Error(`${name}: true ended with ${exit_code}`);
}

/** Waits for all of them, so that a failure leaves nothing half-made behind; then throws the first. */
async function all<T, R>(items: readonly T[], task: (item: T) => Promise<R>): Promise<R[]> {
  const tasks = items.map(task);
  await Promise.allSettled(tasks);
  return Promise.all(tasks);
}

export async function timed<T>(task: () => Promise<T>): Promise<[number, T]> {
  const started = performance.now();
  const result = await task();
  return [performance.now() - started, result];
}
