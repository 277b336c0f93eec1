import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countResources, processesOf, settledResources, type Resources } from '../support/resources.ts';

const CHATTY = 'i=0; while :; do i=$((i+1)); echo "line $i"; [ $((i % 50)) = 0 ] && printf "half " && sleep 0.05; done';
const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('a daemon that ends, and VMs that do', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let shell: string;
  let chatty: string;
  let empty: Resources;

  const qemuPids = async () =>
    (await processesOf(daemon)).filter(({ name }) => name.startsWith('qemu-system')).map(({ pid }) => pid);
  const sandboxState = async (id: string) => {
    const { status } = await daemon.cri.runtime.PodSandboxStatus({ pod_sandbox_id: id });
    return status?.state;
  };
  /** What the chatty container has logged: every line once, in order, none missing between the first and the last. */
  const assertUnbroken = async () => {
    const text = pods.textOf(await pods.readLog(pod, 'chatty.log')).replaceAll('half ', '');
    const numbers = [...text.matchAll(/^line (\d+)$/gm)].map((match) => Number(match[1]));
    assert.ok(numbers.length > 100);
    const broken = numbers.findIndex((number, index) => number !== index + 1);
    assert.equal(broken, -1, `after ${numbers.slice(Math.max(0, broken - 3), broken + 3).join(', ')}`);
    return numbers.length;
  };
  const logged = async (count: number) => {
    for (let i = 0; i < 200; i++, await sleep(50))
      if ((await pods.readLog(pod, 'chatty.log').catch(() => [])).length > count) return;
    assert.fail(`no more than ${count} lines were logged`);
  };
  const assertAlive = async () => {
    assert.equal(await sandboxState(pod.id), 'SANDBOX_READY');
    assert.equal((await pods.containerStatus(daemon, chatty)).state, 'CONTAINER_RUNNING');
    assert.equal((await pods.sh(daemon, shell, 'echo alive')).stdout, 'alive\n');
  };

  before(async () => {
    daemon = await startTestDaemon();
    empty = await countResources(daemon);
    pod = await pods.runPod(daemon, 'survivor');
    shell = await pods.createAndStart(pod, 'shell', ['sleep', '100000']);
    chatty = await pods.createAndStart(pod, 'chatty', ['sh', '-c', CHATTY]);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('takes its pods over after it was killed, and loses no line', async () => {
    const quick = await pods.create(pod, 'quick', ['sh', '-c', 'sleep 1; echo bye; exit 9']);
    const prompt = await pods.createAndStart(pod, 'prompt', ['sh', '-c', 'printf "name? "; sleep 4; echo answered']);
    for (let round = 0; round < 3; round++) {
      await logged(1000 * (round + 1));
      if (round === 1) await daemon.cri.runtime.StartContainer({ container_id: quick });
      await daemon.stop('SIGKILL');
      await sleep(round === 1 ? 1500 : 200);
      await daemon.restart();
      await assertAlive();
      await assertUnbroken();
    }
    const { exit_code } = await pods.waitForState(daemon, quick, 'CONTAINER_EXITED');
    assert.equal(exit_code, 9);
    assert.equal(pods.textOf(await pods.readLog(pod, 'quick.log')), 'bye\n');
    await pods.waitForState(daemon, prompt, 'CONTAINER_EXITED');
    assert.equal(pods.textOf(await pods.readLog(pod, 'prompt.log')), 'name? answered\n');
    await logged(5000);
    await assertUnbroken();
  });

  it('leaves its pods running when it is told to end, and ends at once', async () => {
    const [pid] = await qemuPids();
    const started = performance.now();
    assert.equal(await daemon.stop(), 0);
    assert.ok(performance.now() - started < 2000, `${performance.now() - started} ms`);
    await sleep(300);
    assert.deepEqual(await qemuPids(), [pid]);
    await daemon.restart();
    await assertAlive();
    await assertUnbroken();
  });

  it('makes and removes containers in a pod that it has taken over', async () => {
    const id = await pods.createAndStart(pod, 'new', ['sh', '-c', 'echo new; exit 3']);
    assert.equal((await pods.waitForState(daemon, id, 'CONTAINER_EXITED')).exit_code, 3);
    assert.equal(pods.textOf(await pods.readLog(pod, 'new.log')), 'new\n');
    await daemon.cri.runtime.RemoveContainer({ container_id: id });
    await daemon.cri.runtime.StopContainer({ container_id: chatty, timeout: '0' });
    assert.equal((await pods.containerStatus(daemon, chatty)).exit_code, 137);
    await assertUnbroken();
  });

  it('says within 2 s that a VM has died', async () => {
    const created = await pods.create(pod, 'created', ['true']);
    const [pid = 0] = await qemuPids();
    process.kill(pid, 'SIGKILL');
    const deadline = Date.now() + 2000;
    while ((await sandboxState(pod.id)) === 'SANDBOX_READY') assert.ok(Date.now() < deadline, 'still READY');
    const { state, exit_code, reason, finished_at } = await pods.containerStatus(daemon, shell);
    assert.deepEqual([state, exit_code, reason], ['CONTAINER_EXITED', 137, 'VMDied']);
    assert.notEqual(finished_at, '0');
    assert.equal((await pods.containerStatus(daemon, created)).state, 'CONTAINER_EXITED');
    await daemon.cri.runtime.StopPodSandbox({ pod_sandbox_id: pod.id });
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
    assert.deepEqual(await settledResources(daemon, empty), empty);
  });

  it('takes a VM for dead whose vsock helper died, also one that it has taken over', async () => {
    const deaf = await pods.runPod(daemon, 'deaf');
    const id = await pods.createAndStart(deaf, 'shell', ['sleep', '1000']);
    await daemon.restart();
    const helpers = (await processesOf(daemon)).filter(({ name }) => name.startsWith('vhost-device'));
    if (helpers.length === 0) return; // the kernel's own vsock needs none
    for (const { pid } of helpers) process.kill(pid, 'SIGKILL');
    const { reason } = await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    assert.equal(reason, 'VMDied');
    assert.equal(await sandboxState(deaf.id), 'SANDBOX_NOTREADY');
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: deaf.id });
    assert.deepEqual(await settledResources(daemon, empty), empty);
  });

  it('answers and cleans up while a VM hangs', async () => {
    const hung = await pods.runPod(daemon, 'hung');
    const id = await pods.createAndStart(hung, 'shell', ['sleep', '1000']);
    const [pid = 0] = await qemuPids();
    process.kill(pid, 'SIGSTOP');
    const stuck = pods.sh(daemon, id, 'true', 60);
    stuck.catch(() => undefined);
    const { runtime } = daemon.cri;
    const reads = [
      () => runtime.ListPodSandbox(),
      () => runtime.ListContainers(),
      () => runtime.PodSandboxStatus({ pod_sandbox_id: hung.id }),
      () => runtime.ContainerStatus({ container_id: id }),
      () => runtime.Status(),
    ];
    for (const read of reads) {
      const started = performance.now();
      await read();
      assert.ok(performance.now() - started < 500, `${performance.now() - started} ms`);
    }
    const started = performance.now();
    await runtime.StopPodSandbox({ pod_sandbox_id: hung.id });
    assert.ok(performance.now() - started < 10_000, `${performance.now() - started} ms`);
    await assert.rejects(stuck);
    await runtime.RemovePodSandbox({ pod_sandbox_id: hung.id });
    assert.deepEqual(await settledResources(daemon, empty), empty);
  });

  it('clears away the pod that it was making when it was killed', async () => {
    for (const afterMs of [100, 600]) {
      const run = pods.runPod(daemon, `half-made-${afterMs}`);
      run.catch(() => undefined);
      await sleep(afterMs);
      await daemon.stop('SIGKILL');
      await assert.rejects(run);
      await daemon.restart();
      assert.deepEqual((await daemon.cri.runtime.ListPodSandbox()).items, []);
      assert.deepEqual(await settledResources(daemon, empty), empty);
    }
  });
});
