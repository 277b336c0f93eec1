import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { status } from '@grpc/grpc-js';
import { containerEvents, EventBus, sandboxEvents } from '../../src/pod/events.ts';
import type { PodEvent } from '../../src/pod/contracts.ts';
import { collect, sandboxView, startServer } from './cri-fakes.ts';

const event = (id: string): PodEvent => ({ id, type: 'stopped', timestamp: '1', sandbox: sandboxView, containers: [] });

async function take(events: AsyncIterable<PodEvent>, count: number): Promise<string[]> {
  const ids: string[] = [];
  for await (const { id } of events) if (ids.push(id) === count) break;
  return ids;
}

describe('the event bus', () => {
  it('gives each reader everything since it came, in order', async () => {
    const bus = new EventBus();
    const live = new AbortController();
    bus.publish(event('before'));
    const first = bus.subscribe(live.signal);
    bus.publish(event('1'));
    const second = bus.subscribe(live.signal);
    const reading = take(first, 3);
    bus.publish(event('2'));
    setImmediate(() => bus.publish(event('3')));
    assert.deepEqual(await reading, ['1', '2', '3']);
    assert.deepEqual(await take(second, 2), ['2', '3']);
    assert.equal(bus.hasSubscribers, false, 'readers that left are forgotten');
  });

  it('lets a reader go that is too far behind, and no other', async () => {
    const bus = new EventBus();
    const live = new AbortController();
    const slow = bus.subscribe(live.signal);
    for (let n = 0; n <= 10_000; n++) bus.publish(event(String(n)));
    const fast = bus.subscribe(live.signal);
    bus.publish(event('last'));
    await assert.rejects(take(slow, 1), { code: 'resource_exhausted' });
    assert.deepEqual(await take(fast, 1), ['last']);
  });

  it('ends with the reason of the signal', async () => {
    const bus = new EventBus();
    const live = new AbortController();
    const reading = take(bus.subscribe(live.signal), 1);
    live.abort(new Error('over'));
    await assert.rejects(reading, /over/);
    assert.equal(bus.hasSubscribers, false);
  });
});

describe('what a change of state is to the world', () => {
  it('for containers', () => {
    assert.deepEqual(containerEvents(undefined, 'creating'), []);
    assert.deepEqual(containerEvents('creating', 'created'), ['created']);
    assert.deepEqual(containerEvents('created', 'running'), ['started']);
    assert.deepEqual(containerEvents('running', 'running'), []);
    assert.deepEqual(containerEvents('running', 'exited'), ['stopped']);
    assert.deepEqual(containerEvents('created', 'exited'), ['stopped'], 'it could not be started');
    assert.deepEqual(containerEvents('exited', undefined), ['deleted']);
    assert.deepEqual(containerEvents('creating', undefined), [], 'the create failed: nobody knows it');
  });

  it('for sandboxes', () => {
    assert.deepEqual(sandboxEvents('creating', 'ready'), ['created', 'started']);
    assert.deepEqual(sandboxEvents('ready', 'notready'), ['stopped']);
    assert.deepEqual(sandboxEvents('notready', 'notready'), []);
    assert.deepEqual(sandboxEvents('notready', 'starting'), []);
    assert.deepEqual(sandboxEvents('starting', 'ready'), ['started']);
    assert.deepEqual(sandboxEvents('starting', 'notready'), []);
    assert.deepEqual(sandboxEvents('notready', undefined), ['deleted']);
    assert.deepEqual(sandboxEvents('creating', undefined), []);
  });
});

describe('GetContainerEvents', () => {
  it('sends events as they come and ends at once when the server does', async () => {
    const bus = new EventBus();
    const { promise: subscribed, resolve } = Promise.withResolvers<void>();
    const server = await startServer({
      shutdownGraceMs: 60_000,
      pods: {
        events: (signal) => {
          resolve();
          return bus.subscribe(signal);
        },
      },
    });
    const stream = server.runtime.GetContainerEvents()[Symbol.asyncIterator]();
    const first = stream.next();
    await subscribed;
    bus.publish(event('c1'));
    const { value } = await first;
    assert.equal(value?.container_id, 'c1');
    assert.equal(value?.container_event_type, 'CONTAINER_STOPPED_EVENT');
    assert.equal(value?.pod_sandbox_status?.id, sandboxView.id);
    const rest = collect({ [Symbol.asyncIterator]: () => stream });
    await Promise.all([assert.rejects(rest), server[Symbol.asyncDispose]()]);
  });

  it('ends at once for who has left before it began', { timeout: 10_000 }, async () => {
    await using server = await startServer({ pods: { events: (signal) => new EventBus().subscribe(signal) } });
    const options = { signal: AbortSignal.abort(), deadlineMs: Infinity };
    await assert.rejects(collect(server.runtime.GetContainerEvents({}, options)), { code: status.CANCELLED });
  });
});
