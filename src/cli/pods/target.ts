/** Which pod or container is meant: by `pod/container`, by the name of a pod, or by the start of an id. */
import type { Container__Output } from '../../../proto/generated/runtime/runtime/v1/Container.ts';
import type { PodSandbox__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandbox.ts';
import { CaissonError } from '../../lib/errors.ts';
import type { CriConnection } from '../../lib/grpc/cri-client.ts';
import { shortId } from '../../lib/ids.ts';

export type Pod = PodSandbox__Output;
export type Container = Container__Output;

/** What a name can mean. */
export interface Inventory {
  readonly pods: readonly Pod[];
  readonly containers: readonly Container[];
  /** that it is limited to */
  readonly namespace: string | undefined;
}

export interface ContainerTarget {
  readonly pod: Pod;
  readonly container: Container;
}

export async function takeInventory({ runtime }: CriConnection, namespace: string | undefined): Promise<Inventory> {
  const [{ items }, { containers }] = await Promise.all([runtime.ListPodSandbox(), runtime.ListContainers()]);
  const pods = items.filter(({ metadata }) => namespace === undefined || metadata?.namespace === namespace);
  const ids = new Set(pods.map(({ id }) => id));
  return { pods, containers: containers.filter(({ pod_sandbox_id }) => ids.has(pod_sandbox_id)), namespace };
}

/** Throws `not_found`, or `invalid_argument` with the choices when several are meant. */
export function findPod(inventory: Inventory, text: string): Pod {
  const pod = podNamed(inventory, text) ?? onlyOne(text, byId(inventory.pods, text), podName);
  if (!pod) throw unknown(inventory, 'pod', text);
  return pod;
}

/** As `findPod`. Of the attempts of one container the running one is meant, else the latest. */
export function findContainer(inventory: Inventory, text: string): ContainerTarget {
  const slash = text.indexOf('/');
  if (slash >= 0) return named(inventory, findPod(inventory, text.slice(0, slash)), text.slice(slash + 1));
  const pod = podNamed(inventory, text);
  if (pod) return theOnlyOne(inventory, pod);
  const nameOf = (container: Container): string => containerName(podOf(inventory, container), container);
  const container = onlyOne(text, byId(inventory.containers, text), nameOf);
  if (container) return { pod: podOf(inventory, container), container };
  const podById = onlyOne(text, byId(inventory.pods, text), podName);
  if (podById) return theOnlyOne(inventory, podById);
  throw unknown(inventory, 'pod or container', text);
}

export const podName = ({ metadata }: Pod): string => `${metadata?.namespace}/${metadata?.name}`;

export function containerName(pod: Pod, { metadata }: Container): string {
  return `${podName(pod)}/${metadata?.name}`;
}

/** Of the pods with this name the ready one, else the latest; those of several namespaces are several. */
function podNamed({ pods }: Inventory, name: string): Pod | undefined {
  const candidates = pods.filter(({ metadata }) => metadata?.name === name);
  const latest = current(candidates, podName, ({ state }) => state === 'SANDBOX_READY');
  return onlyOne(name, latest, podName, 'by -n NAMESPACE');
}

function named(inventory: Inventory, pod: Pod, name: string): ContainerTarget {
  const inside = containersOf(inventory, pod);
  const container = inside.find(({ metadata }) => metadata?.name === name);
  if (container) return { pod, container };
  const names = inside.map(({ metadata }) => metadata?.name).join(', ');
  throw new CaissonError('not_found', `pod ${podName(pod)} has no container ${JSON.stringify(name)}`, {
    hint: names === '' ? 'it has none at all' : `it has ${names}`,
  });
}

function theOnlyOne(inventory: Inventory, pod: Pod): ContainerTarget {
  const inside = containersOf(inventory, pod);
  const container = onlyOne(podName(pod), inside, (one) => containerName(pod, one), 'as POD/CONTAINER');
  if (!container) throw new CaissonError('failed_precondition', `pod ${podName(pod)} has no containers`);
  return { pod, container };
}

function containersOf({ containers }: Inventory, pod: Pod): Container[] {
  return current(
    containers.filter(({ pod_sandbox_id }) => pod_sandbox_id === pod.id),
    ({ metadata }) => metadata?.name ?? '',
    ({ state }) => state === 'CONTAINER_RUNNING',
  );
}

/** Of each name one: what lives, else the latest. */
function current<T extends { readonly created_at: string }>(
  all: readonly T[],
  nameOf: (one: T) => string,
  lives: (one: T) => boolean,
): T[] {
  const best = new Map<string, T>();
  for (const one of all) {
    const name = nameOf(one);
    const before = best.get(name);
    if (!before || isBetter(one, before, lives)) best.set(name, one);
  }
  return [...best.values()];
}

function isBetter<T extends { readonly created_at: string }>(a: T, b: T, lives: (one: T) => boolean): boolean {
  return lives(a) === lives(b) ? BigInt(a.created_at) > BigInt(b.created_at) : lives(a);
}

function byId<T extends { readonly id: string }>(all: readonly T[], prefix: string): T[] {
  return /^[0-9a-f]+$/.test(prefix) ? all.filter(({ id }) => id.startsWith(prefix)) : [];
}

function onlyOne<T extends { readonly id: string }>(
  text: string,
  all: readonly T[],
  nameOf: (one: T) => string,
  how = 'by more of its id',
): T | undefined {
  if (all.length <= 1) return all[0];
  const choices = all.map((one) => `${nameOf(one)} (${shortId(one.id)})`).join(', ');
  throw new CaissonError('invalid_argument', `${text} can be any of ${choices}`, { hint: `name one ${how}` });
}

function podOf({ pods }: Inventory, { pod_sandbox_id }: Container): Pod {
  const pod = pods.find(({ id }) => id === pod_sandbox_id);
  if (!pod) throw new CaissonError('not_found', `pod ${shortId(pod_sandbox_id)} has just gone`);
  return pod;
}

function unknown({ namespace }: Inventory, what: string, text: string): CaissonError {
  const where = namespace === undefined ? '' : ` in namespace ${namespace}`;
  return new CaissonError('not_found', `there is no ${what} ${JSON.stringify(text)}${where}`, {
    hint: '`caisson ps -a` lists what there is',
  });
}
