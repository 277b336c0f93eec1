import { CaissonError } from '../lib/errors.ts';
import type { PodContext } from './context.ts';
import type { PodEvent, PodEventType } from './contracts.ts';
import { listContainers } from './lists.ts';
import { nowNs, sandboxView, type ContainerRecord, type SandboxRecord } from './records.ts';

/** A reader that is this far behind is let go: it must read everything anew, which lists are for. */
const MAX_WAITING = 10_000;

/** Hands each event to every subscriber, in the order of publication. Publishing never waits. */
export class EventBus {
  readonly #subscriptions = new Set<Subscription>();

  publish(event: PodEvent): void {
    for (const subscription of this.#subscriptions) subscription.push(event);
  }

  get hasSubscribers(): boolean {
    return this.#subscriptions.size > 0;
  }

  /**
   * Everything that is published from now on; none is left out. Throws the signal's reason when it aborts, and
   * `resource_exhausted` when the reader is too slow.
   */
  subscribe(signal: AbortSignal): AsyncIterable<PodEvent> {
    const subscription = new Subscription();
    this.#subscriptions.add(subscription);
    const end = (): void => {
      this.#subscriptions.delete(subscription);
      subscription.end(signal.reason);
    };
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
    return subscription.read(() => {
      signal.removeEventListener('abort', end);
      this.#subscriptions.delete(subscription);
    });
  }
}

class Subscription {
  #waiting: PodEvent[] = [];
  #failure: { readonly error: unknown } | undefined;
  #wake = (): void => undefined;

  push(event: PodEvent): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(event);
    else this.end(new CaissonError('resource_exhausted', `the reader of events is ${MAX_WAITING} events behind`));
    this.#wake();
  }

  end(error: unknown): void {
    this.#failure ??= { error };
    this.#wake();
  }

  async *read(release: () => void): AsyncGenerator<PodEvent> {
    try {
      for (;;) {
        if (this.#failure) throw this.#failure.error;
        const events = this.#waiting;
        this.#waiting = [];
        yield* events;
        if (this.#waiting.length === 0 && !this.#failure) {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
      }
    } finally {
      release();
    }
  }
}

/** What a change of a container's state is to the world; `undefined`: it did not exist before, or does not any more. */
export function containerEvents(
  before: ContainerRecord['state'] | undefined,
  after: ContainerRecord['state'] | undefined,
): PodEventType[] {
  if (before === after || after === 'creating' || after === 'unknown') return [];
  if (after === undefined) return before === 'creating' ? [] : ['deleted'];
  if (after === 'created') return ['created'];
  return after === 'running' ? ['started'] : ['stopped'];
}

/** As containerEvents; a sandbox that is ready has been created and started at once. */
export function sandboxEvents(
  before: SandboxRecord['state'] | undefined,
  after: SandboxRecord['state'] | undefined,
): PodEventType[] {
  if (before === after || after === 'creating' || after === 'starting') return [];
  if (after === undefined) return before === 'creating' ? [] : ['deleted'];
  if (before === 'starting') return after === 'ready' ? ['started'] : [];
  return after === 'ready' ? ['created', 'started'] : ['stopped'];
}

/** Publishes what happens to sandboxes and containers, whoever does it, in the order in which it happens. */
export function publishEvents({ sandboxes, containers, events }: PodContext): void {
  const publish = (types: readonly PodEventType[], id: string, sandboxId: string, sandbox: SandboxRecord): void => {
    if (types.length === 0 || !events.hasSubscribers) return;
    const view = sandboxView(sandboxId, sandbox);
    const all = listContainers({ containers }, { sandboxId });
    for (const type of types) events.publish({ id, type, timestamp: nowNs(), sandbox: view, containers: all });
  };
  sandboxes.watch((id, before, after) => {
    const record = after ?? before;
    if (record) publish(sandboxEvents(before?.state, after?.state), id, id, record);
  });
  containers.watch((id, before, after) => {
    const sandboxId = (after ?? before)?.sandboxId;
    if (sandboxId === undefined || !sandboxes.has(sandboxId)) return;
    publish(containerEvents(before?.state, after?.state), id, sandboxId, sandboxes.get(sandboxId));
  });
}
