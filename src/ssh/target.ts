/** Which container or pod a client means by its user name. */
import { CaissonError } from '../lib/errors.ts';
import { shortId } from '../lib/ids.ts';
import type { ContainerView, SandboxView } from '../pod/contracts.ts';
import type { SshPods } from './contracts.ts';
import { mayEnter, type Permits } from './permits.ts';

export interface ContainerTarget {
  readonly containerId: string;
  readonly sandboxId: string;
}

export interface PodTarget {
  readonly sandboxId: string;
  readonly ips: readonly string[];
}

type Pods = Pick<SshPods, 'sandboxes' | 'containers'>;

/** container, pod and namespace have at most 63, 253 and 63 characters */
const MAX_NAME_CHARS = 63 + 1 + 253 + 1 + 63;
const LEAST_ID_DIGITS = 4;
const MAX_CHOICES = 12;
const VM_PREFIX = 'vm:';

/** The pod that is meant when its VM itself is; undefined when a container is. */
export const vmOf = (name: string): string | undefined =>
  name.startsWith(VM_PREFIX) ? name.slice(VM_PREFIX.length) : undefined;

interface Found {
  readonly containers: readonly Box[];
  readonly pods: readonly SandboxView[];
}

/** A container that runs, in a pod that does. */
interface Box {
  readonly pod: SandboxView;
  readonly container: ContainerView;
}

/**
 * The running container that is meant: `not_found`, or `invalid_argument` with the choices when several are. What the
 * key may not enter is as if it were not there.
 */
export function containerOf(pods: Pods, name: string, permits: Permits): ContainerTarget {
  const { found, boxes } = find(pods, name, permits);
  const inPods = found.pods.flatMap((pod) => boxes.filter((box) => box.pod.id === pod.id));
  const candidates = [...new Map([...found.containers, ...inPods].map((box) => [box.container.id, box])).values()];
  const [box] = candidates;
  if (candidates.length > 1) throw ambiguous(name, candidates);
  if (box) return { containerId: box.container.id, sandboxId: box.pod.id };
  throw new CaissonError('not_found', `no container runs in pod ${quoted(name)}`);
}

/** The running pod that is meant, by itself or by one of its containers; throws as `containerOf`. */
export function podOf(pods: Pods, name: string, permits: Permits): PodTarget {
  const { found, boxes } = find(pods, name, permits);
  const all = [...found.pods, ...found.containers.map((box) => box.pod)];
  const candidates = [...new Map(all.map((pod) => [pod.id, pod])).values()];
  const [pod] = candidates;
  if (!pod || candidates.length > 1)
    throw ambiguous(
      name,
      boxes.filter((box) => candidates.includes(box.pod)),
    );
  return { sandboxId: pod.id, ips: pod.ips };
}

/** Something is found, or it throws. */
function find(pods: Pods, name: string, permits: Permits): { readonly found: Found; readonly boxes: readonly Box[] } {
  if (name.length > MAX_NAME_CHARS) throw noName(`${name.slice(0, 50)}...`);
  const visible = pods.sandboxes({ state: 'ready' }).filter(({ metadata }) => mayEnter(permits, metadata));
  const byId = new Map(visible.map((pod) => [pod.id, pod]));
  const boxes = pods.containers({ state: 'running' }).flatMap((container) => {
    const pod = byId.get(container.sandboxId);
    return pod ? [{ pod, container }] : [];
  });
  const found = matching(name, visible, boxes);
  if (found.pods.length + found.containers.length > 0) return { found, boxes };
  throw new CaissonError('not_found', `nothing of the name ${quoted(name)} runs that this key may enter`, {
    hint: 'container.pod.namespace, pod.namespace, or the first digits of an id',
  });
}

function matching(name: string, pods: readonly SandboxView[], boxes: readonly Box[]): Found {
  if (name.includes('.')) {
    return {
      pods: pods.filter((pod) => podName(pod) === name),
      containers: boxes.filter((box) => boxName(box) === name),
    };
  }
  if (!/^[0-9a-f]+$/.test(name) || name.length < LEAST_ID_DIGITS) throw noName(name);
  return {
    pods: pods.filter(({ id }) => id.startsWith(name)),
    containers: boxes.filter(({ container }) => container.id.startsWith(name)),
  };
}

const podName = ({ metadata }: SandboxView): string => `${metadata.name}.${metadata.namespace}`;
const boxName = ({ pod, container }: Box): string => `${container.metadata.name}.${podName(pod)}`;
const quoted = (name: string): string => JSON.stringify(name);

function noName(name: string): CaissonError {
  return new CaissonError('invalid_argument', `${quoted(name)} names no container`, {
    hint: 'container.pod.namespace, pod.namespace, or at least 4 digits of an id',
  });
}

function ambiguous(name: string, boxes: readonly Box[]): CaissonError {
  const lines = boxes.slice(0, MAX_CHOICES).map((box) => `${boxName(box)} (${shortId(box.container.id)})`);
  const more = boxes.length > MAX_CHOICES ? [`and ${boxes.length - MAX_CHOICES} more`] : [];
  return new CaissonError('invalid_argument', `${quoted(name)} can mean: ${[...lines, ...more].join(', ')}`);
}
