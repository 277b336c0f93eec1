import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerStatus__Output } from '../../../proto/generated/runtime/runtime/v1/ContainerStatus.ts';
import { orAborted } from '../../lib/async.ts';
import { CaissonError } from '../../lib/errors.ts';
import type { CallOptions, CriConnection } from '../../lib/grpc/cri-client.ts';
import { isUnavailable } from '../cri-client.ts';

/** `ms` for a daemon that is being restarted */
const RESTART_MS = 60_000;
const RETRY_MS = 500;

export async function statusOf(
  { runtime }: CriConnection,
  container_id: string,
  options?: CallOptions,
): Promise<ContainerStatus__Output> {
  const { status } = await runtime.ContainerStatus({ container_id }, options);
  if (!status) throw new CaissonError('internal', `the daemon has no status of container ${container_id}`);
  return status;
}

/**
 * Waits for the container's end, across restarts of the daemon; undefined when it has been removed. Rejects when
 * `signal` aborts.
 */
export async function untilEnded(
  cri: CriConnection,
  id: string,
  signal: AbortSignal,
): Promise<ContainerStatus__Output | undefined> {
  for (;;) {
    try {
      return await watch(cri, id, signal);
    } catch (error) {
      if (signal.aborted || !isUnavailable(error)) throw error;
      // its socket may still be there for a moment, and refuse at once
      await sleep(RETRY_MS, undefined, { signal });
      await orAborted(cri.ready(RESTART_MS), signal);
    }
  }
}

/** Events are subscribed to before the state is looked at, so that nothing is missed in between. */
async function watch(
  cri: CriConnection,
  id: string,
  signal: AbortSignal,
): Promise<ContainerStatus__Output | undefined> {
  const left = new AbortController();
  const until = AbortSignal.any([signal, left.signal]);
  const events = cri.runtime.GetContainerEvents({}, { signal: until, deadlineMs: Infinity })[Symbol.asyncIterator]();
  try {
    let next = events.next();
    next.catch(() => undefined);
    const { containers } = await cri.runtime.ListContainers({ filter: { id } }, { signal });
    if (containers.length === 0) return undefined;
    const now = await statusOf(cri, id, { signal });
    if (now.state === 'CONTAINER_EXITED') return now;
    for (;;) {
      const { done, value: event } = await next;
      if (done) throw new CaissonError('unavailable', 'the daemon tells of no more events');
      if (event.container_id === id && event.container_event_type === 'CONTAINER_DELETED_EVENT') return undefined;
      const status = event.containers_statuses.find((one) => one.id === id);
      if (status?.state === 'CONTAINER_EXITED') return status;
      next = events.next();
    }
  } finally {
    left.abort(); // a generator's return() would wait for the next event
  }
}
