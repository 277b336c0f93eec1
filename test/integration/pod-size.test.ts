import assert from 'node:assert/strict';
import { availableParallelism, totalmem } from 'node:os';
import { after, before, describe, it } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const MIB = 1024 * 1024;

describe("the size of a pod's VM", { skip }, () => {
  let daemon: TestDaemon;
  /** MiB that the kernel of a VM of the least size has */
  let least: number;

  const inside = async (id: string) => {
    const { stdout } = await pods.sh(daemon, id, "awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo; nproc");
    const [memoryMib = 0, processors = 0] = stdout.trim().split('\n').map(Number);
    return { memoryMib, processors };
  };
  const limits = (mib: number, processors = 0) => ({
    memory_limit_in_bytes: String(mib * MIB),
    ...(processors > 0 && { cpu_quota: String(processors * 100_000), cpu_period: '100000' }),
  });
  /** The kernel keeps 1/64 of what it gets for its own account of it. */
  const assertGrown = (memoryMib: number, byMib: number) =>
    assert.ok(
      memoryMib >= least + byMib * 0.95 && memoryMib <= least + byMib + 8,
      `${memoryMib} MiB are not ${least} + ${byMib}`,
    );

  before(async () => {
    daemon = await startTestDaemon();
    const pod = await pods.runPod(daemon, 'least');
    const shell = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    const found = await inside(shell);
    least = found.memoryMib;
    assert.equal(found.processors, 1);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });
  after(() => daemon?.[Symbol.asyncDispose]());

  it("is what the pod's limits and overhead ask", async () => {
    const most = Math.min(2, availableParallelism());
    const linux = { resources: limits(300, most), overhead: limits(512) };
    const pod = await pods.runPod(daemon, 'limits', { linux });
    const shell = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    const found = await inside(shell);
    // the overhead, without what QEMU and its helpers take, is more than the least size, 256 MiB
    assertGrown(found.memoryMib, 300 + 320 - 256);
    assert.equal(found.processors, most);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });

  it("follows its containers' limits, and their updates", async () => {
    const pod = await pods.runPod(daemon, 'containers');
    const first = await pods.createAndStart(pod, 'first', ['sleep', '1000'], { linux: { resources: limits(100) } });
    assertGrown((await inside(first)).memoryMib, 100);
    const created = await pods.create(pod, 'second', ['sleep', '1000'], { linux: { resources: limits(60) } });
    assertGrown((await inside(first)).memoryMib, 160);

    await daemon.cri.runtime.UpdateContainerResources({ container_id: first, linux: limits(200) });
    assertGrown((await inside(first)).memoryMib, 260);
    assert.equal((await pods.sh(daemon, first, 'cat /sys/fs/cgroup/memory.max')).stdout.trim(), String(200 * MIB));
    const status = await pods.containerStatus(daemon, first);
    assert.equal(status.resources?.linux?.memory_limit_in_bytes, String(200 * MIB));

    // one that has not started yet begins with what it was told last
    await daemon.cri.runtime.UpdateContainerResources({ container_id: created, linux: limits(70) });
    await daemon.cri.runtime.StartContainer({ container_id: created });
    assert.equal((await pods.sh(daemon, created, 'cat /sys/fs/cgroup/memory.max')).stdout.trim(), String(70 * MIB));
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });

  it('grows with UpdatePodSandboxResources, also after a restart of the daemon', async () => {
    const pod = await pods.runPod(daemon, 'updated');
    const shell = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    await daemon.cri.runtime.UpdatePodSandboxResources({ pod_sandbox_id: pod.id, resources: limits(128) });
    assertGrown((await inside(shell)).memoryMib, 128);
    await daemon.restart();
    await daemon.cri.runtime.UpdatePodSandboxResources({ pod_sandbox_id: pod.id, resources: limits(400) });
    assertGrown((await inside(shell)).memoryMib, 400);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });

  it('is never more than the host has', async () => {
    const tooMuch = limits(Math.ceil(totalmem() / MIB) + 1024);
    const says = /RESOURCE_EXHAUSTED.*the pod's limits ask for a VM of \d+ MiB, and the host has \d+ MiB/;
    await assert.rejects(pods.runPod(daemon, 'giant', { linux: { resources: tooMuch } }), says);
    const pod = await pods.runPod(daemon, 'modest');
    const asked = pods.create(pod, 'giant', ['true'], { linux: { resources: tooMuch } });
    await assert.rejects(asked, says);
    const shell = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    const update = daemon.cri.runtime.UpdateContainerResources({ container_id: shell, linux: tooMuch });
    await assert.rejects(update, says);
    assert.equal((await inside(shell)).processors, 1);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });
});
