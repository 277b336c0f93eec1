import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Samples } from '../bench/operations.ts';
import { planOf } from '../bench/plan.ts';
import { parseSmaps } from '../bench/memory.ts';
import { ticksOf } from '../bench/processes.ts';
import { makeReport, reportLines, type Results } from '../bench/report.ts';
import { median } from '../bench/statistics.ts';

const SMAPS = `55d0c0a00000-55d0c0b00000 r-xp 00001000 fe:00 1234 /usr/bin/qemu-system-x86_64
Size:               1024 kB
Rss:                 900 kB
Pss:                 450 kB
Pss_Dirty:           100 kB
7f0000000000-7f0010000000 rw-s 00000000 00:01 77 /memfd:caisson-abc (deleted)
Size:             262144 kB
Pss:               70000 kB
7f0010000000-7f0020000000 rw-s 10000000 00:01 77 /memfd:caisson-abc (deleted)
Pss:                5000 kB
7f0030000000-7f0030021000 rw-p 00000000 00:00 0
Pss:                 120 kB
7f0040000000-7f0048000000 rwxp 00000000 00:00 0
Pss:                 300 kB
`;

const HOST: Results['host'] = {
  date: '2026-01-01T00:00:00.000Z',
  cpu: 'test',
  cores: 2,
  memory_mib: 1024,
  kernel: '6.12',
  system: 'Debian',
  load: 0,
  accelerator: 'tcg',
  transport: 'vhost-user-vsock',
  qemu: '10.0',
  containerd: '2.1.9',
  runc: '1.3.6',
  node: '24',
};

const streams: Results['streams']['caisson'] = {
  exec: { spdy: 10.26, websocket: 12 },
  portForward: 8,
  keys: [4, 9, 5],
  execs: 1234.5,
  stop: { idle: 100, execFlows: 150, portForwardFlows: 120 },
  ssh: { rate: 3.14, keys: [1, 2, 30] },
};
const side = { rate: 400.4, perCpuSecond: 500 };
const hostSide = { stdout: { spdy: side, websocket: side }, stdin: { spdy: side, websocket: side }, ssh: side };

describe('the benchmark', () => {
  it('takes the middle of odd and of even numbers of samples', () => {
    assert.equal(median([9, 1, 5]), 5);
    assert.equal(median([4, 1, 2, 9]), 3);
    assert.throws(() => median([]));
  });

  it('reads the proportional set and the memory files of a process', () => {
    assert.deepEqual(parseSmaps(SMAPS), {
      pssKib: 75_870,
      translatedKib: 300,
      memfds: [
        { inode: '77', range: '7f0000000000-7f0010000000', pssKib: 70_000 },
        { inode: '77', range: '7f0010000000-7f0020000000', pssKib: 5000 },
      ],
    });
  });

  it('adds user and system time of a process whose name has blanks and parentheses', () => {
    assert.equal(ticksOf('12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 99'), 42);
    assert.equal(ticksOf(''), 0);
  });

  it('refuses numbers of pods that are none', () => {
    assert.equal(planOf(true, { pods: '5' }).idle.pods, 5);
    assert.deepEqual(planOf(false, { pairs: '2' }).parallel.pairs, 2);
    for (const pods of ['0', '-1', 'x', '1e3', '']) assert.throws(() => planOf(false, { pods }), /--pods/);
  });

  it('reports medians and ratios under the names of the operations', () => {
    const samples = (factor: number): Samples => ({
      RunPodSandbox: [100 * factor, 300 * factor, 200 * factor],
      'CreateContainer+StartContainer': [50 * factor],
      ExecSync: [10 * factor],
      'StopPodSandbox+RemovePodSandbox': [20 * factor],
    });
    const paired = { caisson: samples(3), containerd: samples(2) };
    const report = makeReport({
      host: HOST,
      pairs: [
        { mode: 'clone', pods: 1, operations: ['RunPodSandbox', 'ExecSync'], samples: paired },
        { mode: 'clone', pods: 8, operations: ['RunPodSandbox'], samples: paired },
      ],
      idle: {
        pods: 20,
        costs: {
          caisson: { memory: { totalMib: 120.04, ramMib: 90, translatedMib: 0 }, perPodCpuPercent: 0.333 },
          containerd: { memory: { totalMib: 12, ramMib: 0, translatedMib: 0 }, perPodCpuPercent: 0 },
        },
        daemonRssMib: 150,
      },
      streams: { plan: { mib: 256, keys: 3, execs: 50, stops: 5 }, caisson: streams, containerd: streams, hostSide },
      bootedInstead: 0,
      boot: { cold: [4000, 5000, 6000], clone: [250] },
    });
    const run = { caisson_p50_ms: 600, containerd_p50_ms: 400, ratio: 1.5 };
    assert.deepEqual(report.ops, {
      'RunPodSandbox, clone': run,
      ExecSync: { caisson_p50_ms: 30, containerd_p50_ms: 20, ratio: 1.5 },
      'RunPodSandbox, clone, 8 at once': run,
    });
    assert.deepEqual(report.boot, { cold_ms: 5000, clone_ms: 250, ratio: 20 });
    assert.equal(report.memory.per_pod_mib, 120);
    assert.partialDeepStrictEqual(report.streams.caisson, {
      exec_spdy_mib_s: 10.3,
      key_p50_ms: 5,
      key_p99_ms: 9,
      ssh: { mib_s: 3.1, key_p50_ms: 2, key_p99_ms: 30 },
      stop_while_exec_flows: 1.5,
    });
    const lines = reportLines(report);
    assert.match(lines.join('\n'), /\| RunPodSandbox, clone, 8 at once +\| +600 ms \| +400 ms \| +1\.50 \|/);
  });
});
