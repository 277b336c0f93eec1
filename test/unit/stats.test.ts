import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, mock } from 'node:test';
import { deviceIo, pressure } from '../../guest-agent/src/stats/cgroup-stats.ts';
import { walk } from '../../guest-agent/src/stats/written.ts';
import { statsOf } from '../../src/agent/stats.ts';
import type { AgentStats } from '../../src/agent/contracts.ts';
import { families, metricDescriptors } from '../../src/cri/runtime-service/metrics/messages.ts';
import { toContainerStats } from '../../src/cri/runtime-service/stats-messages.ts';
import { parseCounters } from '../../src/network/counters.ts';
import { noSamples, Sampler, type Sampled } from '../../src/pod/stats/sampler.ts';
import { containerStats, sandboxStats } from '../../src/pod/stats/views.ts';
import { containerView, recordingLog, sandboxView } from './cri-fakes.ts';

const LIVE = new AbortController().signal;

/** As an agent that knows nothing but this container's processor time sends it. */
function agentStats(id: string, cpuUs: number): AgentStats {
  const empty = statsOf({ containers: [], time_ns: '0', pod: null, scratch: null });
  const cgroup = { ...empty.pod, cpu: { ...empty.pod.cpu, usageUs: cpuUs } };
  return { ...empty, pod: cgroup, containers: new Map([[id, { cgroup, written: null, details: null }]]) };
}

describe('reading the kernel', () => {
  it('pressure, also without a full line, and none', () => {
    const some = 'some avg10=1.50 avg60=0.20 avg300=0.00 total=123456\n';
    const line = { total_us: '123456', avg10: 1.5, avg60: 0.2, avg300: 0 };
    assert.deepEqual(pressure(some), { some: line, full: null });
    assert.deepEqual(pressure(`${some}${some.replace('some', 'full')}`)?.full, line);
    assert.equal(pressure(''), null);
  });

  it('io of devices with and without counts', () => {
    const [disk, ...others] = deviceIo('254:0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0 \n').slice(
      0,
      2,
    );
    assert.deepEqual(disk, { major: 8, minor: 16, read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 });
    assert.deepEqual(others, [{ major: 7, minor: 0, read_bytes: 0, written_bytes: 0, reads: 0, writes: 0 }]);
  });

  it('traffic of one interface', () => {
    const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:1234567     200    3    4    0     0          0         0    89012     300    5    6    0     0       0          0
`;
    assert.deepEqual(parseCounters(table, 'eth0'), {
      name: 'eth0',
      received: { bytes: 1_234_567, packets: 200, errors: 3, dropped: 4 },
      sent: { bytes: 89_012, packets: 300, errors: 5, dropped: 6 },
    });
    assert.equal(parseCounters(table, 'eth1'), undefined);
    assert.equal(parseCounters('', 'eth0'), undefined);
  });

  it('what a tree holds: hard links once, links not followed', async () => {
    const top = await mkdtemp(join(tmpdir(), 'caisson-walk-'));
    try {
      await mkdir(join(top, 'a/b'), { recursive: true });
      await writeFile(join(top, 'a/b/file'), Buffer.alloc(100_000, 1));
      await link(join(top, 'a/b/file'), join(top, 'a/same'));
      await symlink('/usr', join(top, 'elsewhere'));
      const { usedBytes, inodes } = await walk(top);
      assert.equal(inodes, 4);
      assert.ok(usedBytes >= 100_000 && usedBytes < 200_000, String(usedBytes));
    } finally {
      await rm(top, { recursive: true });
    }
  });
});

describe("a hostile agent's numbers", () => {
  it('are bounded and made plausible', () => {
    const line = { total_us: '18446744073709551615', avg10: Number.NaN, avg60: -1, avg300: 1e308 };
    const { pod } = statsOf({
      containers: [],
      time_ns: '0',
      scratch: null,
      pod: {
        ...emptyMessage,
        cpu_usage_us: '18446744073709551615',
        cpu_pressure: { some: line, full: null },
        hugepages: [{ page_size: 'x"} evil', current_bytes: '1', peak_bytes: '1' }],
      },
    });
    assert.equal(pod.cpu.usageUs, Number.MAX_SAFE_INTEGER);
    assert.deepEqual(pod.pressure.cpu?.some, { totalUs: Number.MAX_SAFE_INTEGER, avg10: 0, avg60: 0, avg300: 0 });
    assert.deepEqual(pod.hugepages, []);
  });
});

const zero = '0';
const emptyMessage = {
  cpu_usage_us: zero,
  cpu_user_us: zero,
  cpu_system_us: zero,
  cfs_periods: zero,
  cfs_throttled_periods: zero,
  cfs_throttled_us: zero,
  memory_current_bytes: zero,
  memory_peak_bytes: zero,
  memory_anon_bytes: zero,
  memory_file_bytes: zero,
  memory_inactive_file_bytes: zero,
  memory_mapped_file_bytes: zero,
  memory_kernel_bytes: zero,
  memory_swap_bytes: zero,
  page_faults: zero,
  major_page_faults: zero,
  memory_limit_hits: zero,
  oom_kills: zero,
  tasks: zero,
  tasks_max: zero,
  processes: zero,
  cpu_pressure: null,
  memory_pressure: null,
  io_pressure: null,
  io: [],
  hugepages: [],
};

describe('views and messages', () => {
  const running = { ...containerView, state: 'running' as const };
  const sample = (cpuUs: number, clockMs: number) => ({
    timestamp: String(clockMs),
    clockMs,
    stats: agentStats(running.id, cpuUs),
  });

  it('the rate is that between the last two samples', () => {
    const first = { latest: sample(1_000_000, 1000), previous: undefined, network: undefined };
    assert.equal(containerStats(running, first, '/d').sample?.nanoCores, null);
    const second = { latest: sample(6_000_000, 11_000), previous: sample(1_000_000, 1000), network: undefined };
    assert.equal(containerStats(running, second, '/d').sample?.nanoCores, 500_000_000, 'half a processor');
    assert.equal(sandboxStats(sandboxView, [], second).sample?.nanoCores, 500_000_000);
  });

  it('a container that does not run, or has no sample yet, has attributes only', () => {
    const samples = { latest: sample(1, 1), previous: undefined, network: undefined };
    for (const view of [containerStats(containerView, samples, '/d'), containerStats(running, undefined, '/d')]) {
      assert.deepEqual(Object.keys(toContainerStats(view)), ['attributes']);
    }
  });

  it('nanoseconds do not lose digits', () => {
    const samples = { latest: sample(9_007_199_254_740_991, 1), previous: undefined, network: undefined };
    const { cpu } = toContainerStats(containerStats(running, samples, '/d'));
    assert.deepEqual(cpu?.usage_core_nano_seconds, { value: '9007199254740991000' });
  });
});

describe('metrics', () => {
  /** The names that critest's metrics spec asks for. */
  const wanted = `container_blkio_device_usage_total container_cpu_cfs_periods_total
    container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total container_cpu_system_seconds_total
    container_cpu_usage_seconds_total container_cpu_user_seconds_total container_file_descriptors
    container_fs_inodes_free container_fs_inodes_total container_fs_limit_bytes container_fs_reads_bytes_total
    container_fs_reads_total container_fs_usage_bytes container_fs_writes_bytes_total container_fs_writes_total
    container_hugetlb_max_usage_bytes container_hugetlb_usage_bytes container_last_seen container_memory_cache
    container_memory_failcnt container_memory_failures_total container_memory_kernel_usage container_memory_mapped_file
    container_memory_max_usage_bytes container_memory_rss container_memory_swap container_memory_usage_bytes
    container_memory_working_set_bytes container_network_receive_bytes_total container_network_receive_errors_total
    container_network_receive_packets_total container_network_receive_packets_dropped_total
    container_network_transmit_bytes_total container_network_transmit_errors_total
    container_network_transmit_packets_total container_network_transmit_packets_dropped_total
    container_oom_events_total container_pressure_cpu_stalled_seconds_total container_pressure_cpu_waiting_seconds_total
    container_pressure_io_stalled_seconds_total container_pressure_io_waiting_seconds_total
    container_pressure_memory_stalled_seconds_total container_pressure_memory_waiting_seconds_total container_processes
    container_sockets container_spec_cpu_period container_spec_cpu_quota container_spec_cpu_shares
    container_spec_memory_limit_bytes container_spec_memory_reservation_limit_bytes
    container_spec_memory_swap_limit_bytes container_start_time_seconds container_threads container_threads_max
    container_ulimits_soft`.split(/\s+/);

  it('have every name that critest asks for, each once', () => {
    const names = metricDescriptors().map(({ name }) => name);
    assert.equal(names.length, new Set(names).size);
    assert.deepEqual(new Set(names), new Set(wanted));
  });

  it('have as many values of labels as labels', () => {
    const cgroup = statsOf({
      containers: [],
      time_ns: '0',
      scratch: { total_bytes: '9', free_bytes: '1', inodes: '4', free_inodes: '2' },
      pod: {
        ...emptyMessage,
        io: [{ major: 8, minor: 0, read_bytes: '1', written_bytes: '2', reads: '3', writes: '4' }],
        hugepages: [{ page_size: '2MB', current_bytes: '5', peak_bytes: '6' }],
      },
    });
    const network = { name: 'eth0', received: traffic, sent: traffic };
    const latest = { timestamp: '1', clockMs: 1, stats: cgroup };
    const pod = sandboxStats(sandboxView, [], {
      latest,
      previous: undefined,
      network: { timestamp: '1', counters: network },
    });
    assert.ok(pod.sample);
    for (const { name, labels, read } of families) {
      for (const reading of read({ sample: pod.sample, pod, container: undefined }))
        assert.equal(reading.labels?.length ?? 0, labels.length, name);
    }
  });
});

const traffic = { bytes: 1, packets: 2, errors: 3, dropped: 4 };

const info = { agentVersion: '1', kernelRelease: '6', bootId: 'b', configured: true, containers: [] };

describe('the sampler', () => {
  const sampledBy = (stats: Sampled['agent']['stats']): Sampled => ({
    agent: { stats, info: () => Promise.resolve(info) },
    samples: noSamples(),
    counters: async () => ({ name: 'eth0', received: traffic, sent: traffic }),
  });

  it('asks again for whoever comes while an answer is on its way, and only once for all of them', async () => {
    const answers: (() => void)[] = [];
    const vm = sampledBy(() => new Promise((resolve) => answers.push(() => resolve(agentStats('x', 1)))));
    using sampler = new Sampler(() => [vm], recordingLog([]));
    const first = sampler.refresh(vm);
    const others = [sampler.refresh(vm), sampler.refresh(vm)];
    await new Promise(setImmediate);
    assert.equal(answers.length, 1);
    answers[0]?.();
    await first;
    await new Promise(setImmediate);
    assert.equal(answers.length, 2);
    answers[1]?.();
    await Promise.all(others);
    assert.equal(answers.length, 2);
    assert.ok(vm.samples.latest && vm.samples.previous);
  });

  it('is content with the answer that is on its way, for what it has not known yet and is in it', async () => {
    for (const questions of [1, 2]) {
      const answers: (() => void)[] = [];
      const vm = sampledBy(() => new Promise((resolve) => answers.push(() => resolve(agentStats('x', 1)))));
      using sampler = new Sampler(() => [vm], recordingLog([]));
      const onItsWay = sampler.refresh(vm);
      const asked = sampler.fresh(
        vm,
        () => (questions === 1 ? vm.samples.latest : vm.samples.previous) !== undefined,
        LIVE,
      );
      await new Promise(setImmediate);
      answers[0]?.();
      await onItsWay;
      await new Promise(setImmediate);
      assert.equal(answers.length, questions);
      answers[1]?.();
      await asked;
    }
  });

  it('asks a VM that has given no answer at all again, a few times', async () => {
    let questions = 0;
    const vm = sampledBy(async () => {
      if (++questions < 3) throw new Error('no answer in time');
      return agentStats('x', 1);
    });
    using sampler = new Sampler(() => [vm], recordingLog([]));
    await sampler.fresh(vm, () => vm.samples.latest !== undefined, LIVE);
    assert.equal(questions, 3);
    await sampler.fresh(vm, () => false, LIVE);
    assert.equal(questions, 6);
  });

  it('asks once, a moment later, for all that have just started in a VM', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      let questions = 0;
      const vm = sampledBy(async () => agentStats('x', ++questions));
      using sampler = new Sampler(() => [vm], recordingLog([]));
      sampler.soon(vm);
      sampler.soon(vm);
      await new Promise(setImmediate);
      assert.equal(questions, 0);
      mock.timers.tick(1000);
      await new Promise(setImmediate);
      assert.equal(questions, 1);
    } finally {
      mock.timers.reset();
    }
  });

  it('does not wait long for a VM that hangs, and has its traffic all the same', async () => {
    const vm = sampledBy(() => new Promise(() => undefined));
    using sampler = new Sampler(() => [vm], recordingLog([]));
    await sampler.fresh(vm, () => true, LIVE);
    assert.equal(vm.samples.latest, undefined);
    assert.equal(vm.samples.network?.counters.received.bytes, 1);
  });

  it('keeps the last sample when the VM answers with an error', async () => {
    let healthy = true;
    const vm = sampledBy(async () => {
      if (!healthy) throw new Error('gone');
      return agentStats('x', 7);
    });
    using sampler = new Sampler(() => [vm], recordingLog([]));
    await sampler.refresh(vm);
    healthy = false;
    await sampler.refresh(vm);
    assert.equal(vm.samples.latest?.stats.pod.cpu.usageUs, 7);
  });
});
