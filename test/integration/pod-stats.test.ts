import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { eventually } from '../support/steps.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const MIB = 1024 * 1024;
/** without KVM a walk through written files and the next sample take their time */
const PATIENCE_MS = 120_000;

describe('statistics', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let busy: string;
  const runtime = () => daemon.cri.runtime;
  const statsOf = async (id: string) => {
    const { stats } = await runtime().ContainerStats({ container_id: id });
    assert.ok(stats);
    return stats;
  };

  before(async () => {
    daemon = await startTestDaemon();
    pod = await pods.runPod(daemon, 'stats', { labels: { app: 'stats' } });
    const script =
      'dd if=/dev/zero of=/written bs=1M count=9 2>/dev/null; mkdir /d; touch /d/1 /d/2; while :; do :; done';
    busy = await pods.createAndStart(pod, 'busy', ['sh', '-c', script], {
      labels: { kind: 'busy' },
      linux: { resources: { memory_limit_in_bytes: String(64 * MIB), cpu_period: '100000', cpu_quota: '50000' } },
    });
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('a container: processor, memory, disk, pressure', async () => {
    const first = await statsOf(busy);
    assert.equal(first.attributes?.id, busy);
    assert.equal(first.attributes?.metadata?.name, 'busy');
    assert.deepEqual(first.attributes?.labels, { kind: 'busy' });
    await eventually(async () => {
      const { cpu, memory, writable_layer, swap, io } = await statsOf(busy);
      assert.ok(Number(cpu?.usage_core_nano_seconds?.value) > Number(first.cpu?.usage_core_nano_seconds?.value));
      assert.ok(BigInt(cpu?.timestamp ?? 0) > BigInt(first.cpu?.timestamp ?? 0));
      assert.ok(Number(cpu?.usage_nano_cores?.value) > 0, 'a rate, from the second sample on');
      assert.ok(cpu?.psi?.Some && Number(cpu.psi.Some.Total) >= 0, 'the guest kernel tells pressure');
      assert.ok(memory?.psi && io?.psi);
      const workingSet = Number(memory?.working_set_bytes?.value);
      assert.ok(workingSet > 0 && workingSet <= Number(memory?.usage_bytes?.value));
      assert.equal(Number(memory?.available_bytes?.value), 64 * MIB - workingSet);
      assert.ok(Number(memory?.page_faults?.value) > 0);
      assert.equal(swap?.swap_usage_bytes?.value, '0');
      assert.ok(Number(writable_layer?.used_bytes?.value) >= 9 * MIB, 'what was written has been measured');
      assert.ok(Number(writable_layer?.inodes_used?.value) >= 4);
      assert.ok(writable_layer?.fs_id?.mountpoint.startsWith(daemon.dir), 'a path of the node');
    }, PATIENCE_MS);
  });

  it('a pod: its containers, processes and traffic', async () => {
    const { stats: earlier } = await runtime().PodSandboxStats({ pod_sandbox_id: pod.id });
    await pods.sh(daemon, busy, `ping -c 3 ${daemon.cni.prefix4}.1`);
    await eventually(async () => {
      const { stats } = await runtime().PodSandboxStats({ pod_sandbox_id: pod.id });
      const { cpu, memory, network, process: processes, containers } = stats?.linux ?? {};
      assert.equal(stats?.attributes?.metadata?.name, 'stats');
      assert.ok(Number(cpu?.usage_core_nano_seconds?.value) > 0);
      assert.ok(Number(memory?.working_set_bytes?.value) > 0);
      assert.ok(Number(processes?.process_count?.value) >= 1);
      assert.deepEqual(
        containers?.map(({ attributes }) => attributes?.id),
        [busy],
      );
      const was = earlier?.linux?.network?.default_interface;
      assert.equal(network?.default_interface?.name, 'eth0');
      assert.ok(Number(network?.default_interface?.rx_bytes?.value) >= Number(was?.rx_bytes?.value) + 3 * 64);
      assert.ok(Number(network?.default_interface?.tx_bytes?.value) >= Number(was?.tx_bytes?.value) + 3 * 64);
    }, PATIENCE_MS);
  });

  it('lists and their streams: containers that run, by every filter', async () => {
    const idle = await pods.create(pod, 'idle', ['sleep', '1000']);
    const list = async (filter = {}) => {
      const { stats } = await runtime().ListContainerStats({ filter });
      const streamed = [];
      for await (const { container_stats } of runtime().StreamContainerStats({ filter }))
        streamed.push(...container_stats);
      const ids = stats.map(({ attributes }) => attributes?.id ?? '');
      assert.deepEqual(
        streamed.map(({ attributes }) => attributes?.id),
        ids,
      );
      return ids;
    };
    assert.deepEqual(await list(), [busy]);
    assert.deepEqual(await list({ id: busy.slice(0, 12) }), [busy]);
    assert.deepEqual(await list({ pod_sandbox_id: pod.id, label_selector: { kind: 'busy' } }), [busy]);
    assert.deepEqual(await list({ label_selector: { kind: 'other' } }), []);
    assert.deepEqual(await list({ id: idle }), []);
    const { stats } = await runtime().ListPodSandboxStats({ filter: { label_selector: { app: 'stats' } } });
    assert.deepEqual(
      stats.map(({ attributes }) => attributes?.id),
      [pod.id],
    );
    const { stats: none } = await runtime().ListPodSandboxStats({ filter: { label_selector: { app: 'x' } } });
    assert.deepEqual(none, []);
    assert.equal((await statsOf(idle)).cpu, null, 'one that does not run has attributes only');
  });

  it('metrics: a value and the right labels for each name that has been announced', async () => {
    const { descriptors } = await runtime().ListMetricDescriptors({});
    const labels = new Map(descriptors.map(({ name, label_keys }) => [name, label_keys]));
    await eventually(async () => {
      const { pod_metrics } = await runtime().ListPodSandboxMetrics({});
      const [mine] = pod_metrics;
      assert.equal(mine?.pod_sandbox_id, pod.id);
      assert.deepEqual(
        mine.container_metrics.map(({ container_id }) => container_id),
        [busy],
      );
      const all = [...mine.metrics, ...mine.container_metrics.flatMap(({ metrics }) => metrics)];
      for (const metric of all) assert.equal(metric.label_values.length, labels.get(metric.name)?.length, metric.name);
      const missing = [...labels.keys()].filter((name) => !all.some((metric) => metric.name === name));
      // a guest without huge pages has none to tell of
      assert.deepEqual(
        missing.filter((name) => !name.includes('hugetlb')),
        [],
      );
      const valueOf = (name: string) => Number(all.find((metric) => metric.name === name)?.value?.value);
      assert.equal(valueOf('container_spec_memory_limit_bytes'), 64 * MIB);
      assert.ok(valueOf('container_file_descriptors') >= 3);
      assert.ok(valueOf('container_ulimits_soft') > 0);
    }, PATIENCE_MS);
  });

  it('lists answer from memory while the VM hangs, and have the last numbers', async () => {
    const { info } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id, verbose: true });
    const { vm } = JSON.parse(info['info'] ?? '{}') as { vm: { pid: number } };
    await statsOf(busy);
    process.kill(vm.pid, 'SIGSTOP');
    try {
      let hanging = true;
      const exec = pods.exec(daemon, busy, ['true'], 60).finally(() => (hanging = false));
      const { stats } = await runtime().ListContainerStats({}, { deadlineMs: 5000 });
      const { stats: sandboxes } = await runtime().ListPodSandboxStats({}, { deadlineMs: 5000 });
      const { pod_metrics } = await runtime().ListPodSandboxMetrics({}, { deadlineMs: 5000 });
      assert.ok(Number(stats[0]?.cpu?.usage_core_nano_seconds?.value) > 0);
      assert.equal(sandboxes.length, 1);
      assert.equal(pod_metrics.length, 1);
      assert.ok((await statsOf(busy)).cpu, 'also one container alone, after a moment');
      assert.ok(hanging, 'the VM did hang');
      process.kill(vm.pid, 'SIGCONT');
      assert.equal((await exec).exitCode, 0);
    } finally {
      process.kill(vm.pid, 'SIGCONT');
    }
  });

  it('unknown ones are not found', async () => {
    await assert.rejects(runtime().ContainerStats({ container_id: 'f00' }), { code: 5 });
    await assert.rejects(runtime().PodSandboxStats({ pod_sandbox_id: 'f00' }), { code: 5 });
  });
});
