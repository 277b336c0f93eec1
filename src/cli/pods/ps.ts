import type { Command } from 'commander';
import { z } from 'zod';
import type { PodSandboxStatusResponse__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStatusResponse.ts';
import { configOf } from '../context.ts';
import { connectDaemon, type DaemonConnection } from '../cri-client.ts';
import { printJson, printTable } from '../output.ts';
import { shortId } from '../../lib/ids.ts';
import { age } from './age.ts';
import { takeInventory, type Container, type Pod } from './target.ts';

interface PsOptions {
  readonly namespace?: string;
  readonly all?: true;
  readonly json?: true;
}

interface PodRow {
  readonly pod: Pod;
  readonly paused: Paused;
  readonly ips: readonly string[];
  readonly containers: readonly Container[];
}

const HEADINGS = ['NAMESPACE', 'POD', 'POD ID', 'IP', 'CONTAINER', 'ID', 'STATE', 'AGE', 'IMAGE'];

/** From the daemon's memory: no VM is asked. */
export async function ps(command: Command): Promise<void> {
  const { namespace, all = false, json } = command.opts<PsOptions>();
  using daemon = await connectDaemon((await configOf(command)).socket);
  const { pods, containers } = await takeInventory(daemon, namespace);
  const shown = pods.filter(({ state }) => all || state === 'SANDBOX_READY').toSorted(byName);
  const rows = await Promise.all(
    shown.map((pod) =>
      podRow(
        daemon,
        pod,
        containers.filter((one) => isIn(one, pod, all)),
      ),
    ),
  );
  if (json) printJson(rows.map(asJson));
  else printTable([HEADINGS, ...rows.flatMap(lines)]);
}

function isIn({ pod_sandbox_id, state }: Container, pod: Pod, all: boolean): boolean {
  return pod_sandbox_id === pod.id && (all || state === 'CONTAINER_RUNNING' || state === 'CONTAINER_CREATED');
}

const infoSchema = z.object({ paused: z.boolean(), pausedContainers: z.array(z.string()) });
type Paused = z.infer<typeof infoSchema>;

/** It may have gone since it was listed; then it has no addresses. */
async function podRow({ runtime }: DaemonConnection, pod: Pod, containers: readonly Container[]): Promise<PodRow> {
  const gone = { status: null, info: {} };
  const { status, info } = await runtime
    .PodSandboxStatus({ pod_sandbox_id: pod.id, verbose: true })
    .catch((): Pick<PodSandboxStatusResponse__Output, 'status' | 'info'> => gone);
  const paused = infoSchema.safeParse(JSON.parse(info['info'] ?? '{}')).data ?? { paused: false, pausedContainers: [] };
  const { ip = '', additional_ips = [] } = status?.network ?? {};
  const ips = [ip, ...additional_ips.map((other) => other.ip)].filter((one) => one !== '');
  return {
    pod,
    paused,
    ips,
    containers: containers.toSorted((a, b) => Number(BigInt(a.created_at) - BigInt(b.created_at))),
  };
}

function lines({ pod, paused, ips, containers }: PodRow): string[][] {
  const { metadata } = pod;
  const ofPod = [metadata?.namespace ?? '', metadata?.name ?? '', shortId(pod.id), ips[0] ?? '-'];
  if (containers.length === 0) return [[...ofPod, '-', '-', podState(pod, paused), age(pod.created_at), '-']];
  return containers.map(({ metadata: own, id, state, created_at, image }) => {
    return [
      ...ofPod,
      own?.name ?? '',
      shortId(id),
      containerState(id, state, paused),
      age(created_at),
      image?.image ?? '',
    ];
  });
}

function asJson({ pod, paused, ips, containers }: PodRow): object {
  return {
    id: pod.id,
    namespace: pod.metadata?.namespace,
    name: pod.metadata?.name,
    state: podState(pod, paused),
    createdAt: timeOf(pod.created_at),
    runtimeHandler: pod.runtime_handler,
    ips,
    containers: containers.map(({ id, metadata, state, created_at, image }) => {
      const { name, attempt } = metadata ?? {};
      return {
        id,
        name,
        attempt,
        state: containerState(id, state, paused),
        createdAt: timeOf(created_at),
        image: image?.image,
      };
    }),
  };
}

const timeOf = (ns: string): string => new Date(Number(BigInt(ns) / 1_000_000n)).toISOString();

/** CRI knows nothing of what stands still. */
const podState = ({ state }: Pod, { paused }: Paused): string => (paused ? 'paused' : stateOf(state));

function containerState(id: string, state: string, { paused, pausedContainers }: Paused): string {
  const standsStill = (paused && state === 'CONTAINER_RUNNING') || pausedContainers.includes(id);
  return standsStill ? 'paused' : stateOf(state);
}

/** `SANDBOX_READY` is `ready`. */
const stateOf = (state: string): string => state.replace(/^(SANDBOX|CONTAINER)_/, '').toLowerCase();

function byName({ metadata: a }: Pod, { metadata: b }: Pod): number {
  return `${a?.namespace}/${a?.name}`.localeCompare(`${b?.namespace}/${b?.name}`);
}
