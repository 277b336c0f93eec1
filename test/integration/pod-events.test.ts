import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ContainerEventResponse__Output } from '../../proto/generated/runtime/runtime/v1/ContainerEventResponse.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { eventually } from '../support/steps.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('events', { skip }, () => {
  let daemon: TestDaemon;
  const seen: ContainerEventResponse__Output[] = [];
  let reading: Promise<void>;
  const runtime = () => daemon.cri.runtime;
  const typesOf = (id: string) =>
    seen
      .filter(({ container_id }) => container_id === id)
      .map(({ container_event_type }) => container_event_type.replace(/^CONTAINER_(\w+)_EVENT$/, '$1').toLowerCase());

  before(async () => {
    daemon = await startTestDaemon();
    reading = (async () => {
      for await (const event of runtime().GetContainerEvents({}, { deadlineMs: 600_000 })) seen.push(event);
    })();
    reading.catch(() => undefined); // looked at in the last test
    await runtime().Version({});
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('tell of everything that happens to a pod, in order, with its state then', async () => {
    const pod = await pods.runPod(daemon, 'events');
    const short = await pods.createAndStart(pod, 'short', ['sh', '-c', 'exit 3']);
    const greedy = await pods.createAndStart(pod, 'greedy', ['sh', '-c', 'dd if=/dev/zero of=/dev/null bs=40M'], {
      linux: { resources: { memory_limit_in_bytes: String(15 * 1024 * 1024) } },
    });
    await pods.waitForState(daemon, short, 'CONTAINER_EXITED');
    await pods.waitForState(daemon, greedy, 'CONTAINER_EXITED');
    await runtime().RemoveContainer({ container_id: short });
    await runtime().RemovePodSandbox({ pod_sandbox_id: pod.id });
    await eventually(() => assert.ok(typesOf(pod.id).includes('deleted')));

    assert.deepEqual(typesOf(pod.id), ['created', 'started', 'stopped', 'deleted']);
    assert.deepEqual(typesOf(short), ['created', 'started', 'stopped', 'deleted']);
    assert.deepEqual(typesOf(greedy), ['created', 'started', 'stopped', 'deleted']);
    const stopOf = (id: string) =>
      seen
        .find((event) => event.container_id === id && event.container_event_type === 'CONTAINER_STOPPED_EVENT')
        ?.containers_statuses.find((status) => status.id === id);
    assert.equal(stopOf(short)?.exit_code, 3);
    assert.equal(stopOf(short)?.state, 'CONTAINER_EXITED');
    assert.deepEqual([stopOf(greedy)?.exit_code, stopOf(greedy)?.reason], [137, 'OOMKilled']);
    for (const event of seen) {
      assert.equal(event.pod_sandbox_status?.metadata?.name, 'events');
      assert.ok(BigInt(event.created_at) > 0n);
    }
    const times = seen.map(({ created_at }) => BigInt(created_at));
    assert.ok(times.every((time, at) => time >= (times[at - 1] ?? 0n)));
  });

  it('tell of a VM that dies', async () => {
    const pod = await pods.runPod(daemon, 'dies');
    const id = await pods.createAndStart(pod, 'sleeper', ['sleep', '1000']);
    const { info } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id, verbose: true });
    const { vm } = JSON.parse(info['info'] ?? '{}') as { vm: { pid: number } };
    process.kill(vm.pid, 'SIGKILL');
    await eventually(() => assert.deepEqual(typesOf(id), ['created', 'started', 'stopped']));
    assert.deepEqual(typesOf(pod.id), ['created', 'started', 'stopped']);
  });

  it('end when the daemon does, without delay', async () => {
    assert.equal(await daemon.stop(), 0);
    await assert.rejects(reading);
    assert.doesNotMatch(await daemon.log(), /RPCs still run at shutdown/);
  });
});
