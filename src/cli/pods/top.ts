import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { PodSandboxStats__Output } from '../../../proto/generated/runtime/runtime/v1/PodSandboxStats.ts';
import { shortId } from '../../lib/ids.ts';
import { configOf } from '../context.ts';
import { connectDaemon, type DaemonConnection } from '../cri-client.ts';
import { leaveOnSignals } from '../streams/leaving.ts';
import { print, printJson, table } from '../output.ts';
import type { Pod } from './target.ts';
import { cpuPercent, podInfoSchema, vmUsage, type PodInfo, type VmUsage } from './vm-usage.ts';

const MIB = 1024 * 1024;
/** `ms` between the two looks that a rate needs, when there is one table only */
const FIRST_MS = 1000;
/** `ms` for a guest's numbers in a single table; one that hangs has older ones, or none */
const FRESH_MS = 3000;
/** cursor home, and clear to the end of the screen */
const HOME_AND_CLEAR = '\u001b[H\u001b[J';

interface TopOptions {
  readonly namespace?: string;
  readonly json?: true;
  readonly iterations?: number;
  /** seconds */
  readonly delay: number;
}

/** A pod as it is shown. */
interface Row {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly vcpus: number;
  readonly vmMemoryMib: number;
  /** of QEMU and its helpers, on the node */
  readonly rssBytes: number | null;
  /** of one processor */
  readonly cpuPercent: number | null;
  /** what the containers use, by the guest's word */
  readonly guestMemoryBytes: number | null;
  readonly agentRoundTripMs: number | null;
  /** since the agent was asked something that it has not answered */
  readonly agentSilentMs: number;
}

/** Refreshes on a terminal, until a signal; else one table. */
export async function top(command: Command): Promise<void> {
  const { namespace, json, iterations, delay } = command.opts<TopOptions>();
  const onTerminal = process.stdout.isTTY && !json;
  const count = iterations ?? (onTerminal ? Infinity : 1);
  using leaving = leaveOnSignals();
  using daemon = await connectDaemon((await configOf(command)).socket);
  const look = new Look(daemon, namespace);
  await look.rows();
  for (let shown = 0; shown < count && !leaving.signal.aborted; shown++) {
    const ms = shown === 0 ? FIRST_MS : delay * 1000;
    const waited = sleep(ms, undefined, { signal: leaving.signal }).catch(() => undefined);
    await Promise.all([waited, count === 1 ? look.freshen() : undefined]);
    if (leaving.signal.aborted) break;
    const rows = await look.rows();
    if (json) printJson(rows);
    else print(`${onTerminal && count > 1 ? HOME_AND_CLEAR : ''}${table([HEADINGS, ...rows.map(cells)])}`);
  }
}

/** Looks at all pods again and again, and remembers what rates need. */
class Look {
  readonly #daemon: DaemonConnection;
  readonly #namespace: string | undefined;
  #before = new Map<string, VmUsage>();
  #pods: readonly Pod[] = [];

  constructor(daemon: DaemonConnection, namespace: string | undefined) {
    this.#daemon = daemon;
    this.#namespace = namespace;
  }

  /** From the daemon's memory and the node's kernel. */
  async rows(): Promise<Row[]> {
    const { runtime } = this.#daemon;
    const [{ items }, { stats }] = await Promise.all([
      runtime.ListPodSandbox({ filter: { state: { state: 'SANDBOX_READY' } } }),
      runtime.ListPodSandboxStats(),
    ]);
    const wanted = (pod: Pod): boolean => this.#namespace === undefined || pod.metadata?.namespace === this.#namespace;
    this.#pods = items.filter(wanted);
    const seen = new Map<string, VmUsage>();
    const statsOf = new Map(stats.map((one) => [one.attributes?.id, one]));
    const rows = await Promise.all(this.#pods.map((pod) => this.#row(pod, statsOf.get(pod.id), seen)));
    this.#before = seen;
    return rows.filter((row) => row !== undefined).toSorted((a, b) => (b.cpuPercent ?? 0) - (a.cpuPercent ?? 0));
  }

  /** Has the daemon ask each guest for new numbers, side by side; one that does not answer is not waited for. */
  async freshen(): Promise<void> {
    const ask = ({ id }: Pod): Promise<unknown> =>
      this.#daemon.runtime.PodSandboxStats({ pod_sandbox_id: id }, { deadlineMs: FRESH_MS });
    await Promise.allSettled(this.#pods.map(ask));
  }

  /** Undefined when the pod has gone meanwhile. */
  async #row(pod: Pod, stats: PodSandboxStats__Output | undefined, seen: Map<string, VmUsage>) {
    const info = await this.#info(pod);
    if (!info) return undefined;
    const usage = await vmUsage(info);
    if (usage) seen.set(pod.id, usage);
    const guestMemory = stats?.linux?.memory?.working_set_bytes?.value;
    const row: Row = {
      id: pod.id,
      namespace: pod.metadata?.namespace ?? '',
      name: pod.metadata?.name ?? '',
      vcpus: info.vcpus,
      vmMemoryMib: info.memoryMib,
      rssBytes: usage?.rssBytes ?? null,
      cpuPercent: usage ? cpuPercent(this.#before.get(pod.id), usage) : null,
      guestMemoryBytes: guestMemory === undefined ? null : Number(guestMemory),
      agentRoundTripMs: info.agent?.roundTripMs ?? null,
      agentSilentMs: info.agent?.silentMs ?? 0,
    };
    return row;
  }

  async #info({ id }: Pod): Promise<PodInfo | undefined> {
    const request = { pod_sandbox_id: id, verbose: true };
    const answer = await this.#daemon.runtime.PodSandboxStatus(request).catch(() => undefined);
    return answer && podInfoSchema.parse(JSON.parse(answer.info['info'] ?? '{}'));
  }
}

const HEADINGS = ['POD', 'ID', 'CPU %', 'VCPUS', 'VM RSS', 'GUEST MEMORY', 'AGENT'];

function cells(row: Row): string[] {
  const mib = (bytes: number | null): string => (bytes === null ? '-' : `${Math.round(bytes / MIB)}`);
  return [
    `${row.namespace}/${row.name}`,
    shortId(row.id),
    row.cpuPercent?.toFixed(1) ?? '-',
    String(row.vcpus),
    `${mib(row.rssBytes)} MiB`,
    `${mib(row.guestMemoryBytes)} of ${row.vmMemoryMib} MiB`,
    agentCell(row),
  ];
}

/** One that does not answer is what one looks for. */
function agentCell({ agentRoundTripMs, agentSilentMs }: Row): string {
  if (agentSilentMs > FIRST_MS) return `silent for ${Math.round(agentSilentMs / 1000)} s`;
  return agentRoundTripMs === null ? '-' : `${agentRoundTripMs.toFixed(1)} ms`;
}
