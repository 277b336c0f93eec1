import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { assertLeavesNothing, countFds, countResources, type Resources } from '../support/resources.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('calls that the caller gives up', { skip }, () => {
  let daemon: TestDaemon;
  let empty: Resources;
  const runtime = () => daemon.cri.runtime;

  before(async () => {
    daemon = await startTestDaemon();
    empty = await countResources(daemon);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('undoes a start that the caller gives up at any moment', { timeout: 120_000 }, async () => {
    const first = await pods.runPod(daemon, 'first'); // opens what stays open
    await runtime().RemovePodSandbox({ pod_sandbox_id: first.id });
    await assertLeavesNothing(daemon, empty);
    const fds = await countFds(daemon);
    for (const afterMs of [0, 5, 20, 50, 100, 200, 400, 600, 800]) {
      const caller = new AbortController();
      const config = pods.sandboxConfig(daemon, 'cancelled');
      const answer = runtime().RunPodSandbox({ config }, { signal: caller.signal });
      const outcome = answer.then(
        ({ pod_sandbox_id }) => pod_sandbox_id,
        (error: { code: status }) => assert.equal(error.code, status.CANCELLED),
      );
      await sleep(afterMs);
      caller.abort();
      await outcome;
      // what the daemon had finished before it knew is the caller's to remove, as after a lost answer
      for (let i = 0; i < 100 && (await countResources(daemon)).vmDirectories > 0; i++) {
        const { items } = await runtime().ListPodSandbox();
        await Promise.all(items.map(({ id }) => runtime().RemovePodSandbox({ pod_sandbox_id: id })));
        await sleep(50);
      }
      await assertLeavesNothing(daemon, empty);
    }
    assert.ok((await countFds(daemon)) <= fds + 3, `${fds} before, ${await countFds(daemon)} after`);
    const pod = await pods.runPod(daemon, 'cancelled');
    await runtime().RemovePodSandbox({ pod_sandbox_id: pod.id });
  });

  it('finishes or undoes what the caller of a container gives up', async () => {
    const pod = await pods.runPod(daemon, 'given-up');
    const config = { metadata: { name: 'c' }, image: { image: pods.BUSYBOX }, command: ['sleep', '1000'] };
    const request = { pod_sandbox_id: pod.id, sandbox_config: pod.config, config };
    for (const afterMs of [0, 5, 20, 60]) {
      const caller = new AbortController();
      const made = runtime().CreateContainer(request, { signal: caller.signal });
      made.catch(() => undefined);
      await sleep(afterMs);
      caller.abort();
      await made.catch((error: { code: status }) => assert.equal(error.code, status.CANCELLED));
      // the name is free again when the guest has removed what it had made
      const remove = async (): Promise<string> => {
        for (const { id } of (await runtime().ListContainers()).containers)
          await runtime().RemoveContainer({ container_id: id });
        return (await runtime().CreateContainer(request)).container_id;
      };
      let id = '';
      for (let i = 0; i < 100 && id === ''; i++, await sleep(20)) {
        id = await remove().catch((error: { code: status }) => (assert.equal(error.code, status.ALREADY_EXISTS), ''));
      }
      const starter = new AbortController();
      const started = runtime().StartContainer({ container_id: id }, { signal: starter.signal });
      started.catch(() => undefined);
      await sleep(afterMs);
      starter.abort();
      await started.catch((error: { code: status }) => assert.equal(error.code, status.CANCELLED));
      await pods
        .waitForState(daemon, id, afterMs === 0 ? 'CONTAINER_CREATED' : 'CONTAINER_RUNNING')
        .catch(() => undefined);
      const { state } = await pods.containerStatus(daemon, id);
      if (state === 'CONTAINER_RUNNING') assert.equal((await pods.exec(daemon, id, ['true'])).exitCode, 0);
      else assert.equal(state, 'CONTAINER_CREATED');
      await runtime().RemoveContainer({ container_id: id });
    }
    const witness = await pods.createAndStart(pod, 'witness', ['sleep', '1000']);
    const { stdout } = await pods.sh(daemon, witness, 'cat /proc/1/cgroup; ps | grep -c "[s]leep 1000"');
    assert.equal(stdout.trim().split('\n').at(-1), '1');
  });
});
