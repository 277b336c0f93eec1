import type { BootSamples } from './boot.ts';
import type { Host } from './host.ts';
import type { IdleResult } from './idle.ts';
import type { PairedSamples } from './pairs.ts';
import { OPERATIONS, type Operation } from './operations.ts';
import { median, rounded } from './statistics.ts';
import { streamLines, streamReport, type StreamReport, type StreamResults } from './stream-report.ts';
import { markdownTable } from './table.ts';

/** Pairs of one mode. */
export interface PairSet {
  /** such as `clone` */
  readonly mode: string;
  readonly pods: number;
  /** those of `OPERATIONS` that this set is about: a mode differs in how pods start */
  readonly operations: readonly Operation[];
  readonly samples: PairedSamples;
}

export interface Results {
  readonly host: Host;
  readonly pairs: readonly PairSet[];
  readonly idle: IdleResult;
  readonly streams: StreamResults;
  readonly boot: BootSamples;
  /** pods whose clone failed */
  readonly bootedInstead: number;
}

interface OperationFigures {
  readonly caisson_p50_ms: number;
  readonly containerd_p50_ms: number;
  readonly ratio: number;
}

/** What `--json` writes. */
export interface Report {
  readonly host: Host;
  readonly ops: Readonly<Record<string, OperationFigures>>;
  readonly memory: {
    readonly pods: number;
    readonly per_pod_mib: number;
    /** of it, the VM's memory and QEMU's translations of the guest's code; the rest is QEMU itself and its helper */
    readonly per_pod_ram_mib: number;
    readonly per_pod_translated_mib: number;
    readonly containerd_per_pod_mib: number;
    readonly daemon_rss_mib: number;
  };
  readonly idle_cpu: { readonly per_pod_percent: number; readonly containerd_per_pod_percent: number };
  /** pods that were booted because their clone failed: then the figures are not those of clones */
  readonly booted_instead: number;
  readonly boot: { readonly cold_ms: number; readonly clone_ms: number; readonly ratio: number };
  readonly streams: StreamReport;
}

export function makeReport({ host, pairs, idle, streams, boot, bootedInstead }: Results): Report {
  const [cold, clone] = [median(boot.cold), median(boot.clone)];
  const { caisson, containerd } = idle.costs;
  return {
    host,
    ops: Object.fromEntries(pairs.flatMap(figuresOf)),
    memory: {
      pods: idle.pods,
      per_pod_mib: rounded(caisson.memory.totalMib, 1),
      per_pod_ram_mib: rounded(caisson.memory.ramMib, 1),
      per_pod_translated_mib: rounded(caisson.memory.translatedMib, 1),
      containerd_per_pod_mib: rounded(containerd.memory.totalMib, 1),
      daemon_rss_mib: rounded(idle.daemonRssMib, 1),
    },
    idle_cpu: {
      per_pod_percent: rounded(caisson.perPodCpuPercent, 2),
      containerd_per_pod_percent: rounded(containerd.perPodCpuPercent, 2),
    },
    booted_instead: bootedInstead,
    boot: { cold_ms: rounded(cold, 1), clone_ms: rounded(clone, 1), ratio: rounded(cold / clone, 1) },
    streams: streamReport(streams),
  };
}

function figuresOf({ mode, pods, operations, samples }: PairSet): [string, OperationFigures][] {
  return OPERATIONS.filter((operation) => operations.includes(operation)).map((operation) => {
    const [caisson, containerd] = [median(samples.caisson[operation]), median(samples.containerd[operation])];
    const figures = {
      caisson_p50_ms: rounded(caisson, 1),
      containerd_p50_ms: rounded(containerd, 1),
      ratio: rounded(caisson / containerd, 2),
    };
    return [nameOf(operation, mode, pods), figures];
  });
}

/** Only the start depends on the mode. */
function nameOf(operation: Operation, mode: string, pods: number): string {
  const name = operation === 'RunPodSandbox' ? `${operation}, ${mode}` : operation;
  return pods === 1 ? name : `${name}, ${pods} at once`;
}

/** Lines for people; a Markdown table, so that it can go into docs/benchmarks.md as it is. */
export function reportLines({ host, ops, memory, idle_cpu, boot, streams, booted_instead }: Report): string[] {
  const ms = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  const rows = [
    ...Object.entries(ops).map(([name, figures]) => [
      name,
      ms(figures.caisson_p50_ms),
      ms(figures.containerd_p50_ms),
      figures.ratio.toFixed(2),
    ]),
    ['VM alone: cold boot', ms(boot.cold_ms), '', ''],
    ['VM alone: clone', ms(boot.clone_ms), '', ''],
    ['cold boot ÷ clone', boot.ratio.toFixed(1), '', ''],
    ['memory of an idle pod', `${memory.per_pod_mib} MiB`, `${memory.containerd_per_pod_mib} MiB`, ''],
    ["… of it the VM's own memory", `${memory.per_pod_ram_mib} MiB`, '', ''],
    ['… of it translated code (TCG)', `${memory.per_pod_translated_mib} MiB`, '', ''],
    ['processor time of an idle pod', `${idle_cpu.per_pod_percent} %`, `${idle_cpu.containerd_per_pod_percent} %`, ''],
    [`daemon's resident memory at ${memory.pods} pods`, `${memory.daemon_rss_mib} MiB`, '', ''],
  ];
  const wrong = `NOT VALID: ${booted_instead} pods were booted because their clone failed`;
  const table = markdownTable(['medians', 'Caisson', 'containerd', 'ratio'], rows);
  return [...hostLines(host), '', ...table, '', ...streamLines(streams), ...(booted_instead > 0 ? ['', wrong] : [])];
}

function hostLines(host: Host): string[] {
  return [
    `${host.date}, load before the run ${host.load.toFixed(2)}`,
    `${host.cores} cores of ${host.cpu}, ${host.memory_mib} MiB, ${host.system}, Linux ${host.kernel}`,
    `QEMU ${host.qemu} with ${host.accelerator}, ${host.transport}; containerd ${host.containerd}, runc ${host.runc}`,
  ];
}
