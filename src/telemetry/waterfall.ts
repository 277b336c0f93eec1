import type { RecordedSpan, RecordedTrace } from './spans.ts';

/** A phase of one trace, or the medians of the same phase of many. */
export interface Phase {
  readonly name: string;
  /** 0: the root */
  readonly depth: number;
  /** `ms` since the root began */
  readonly offsetMs: number;
  /** undefined: it did not end before the root */
  readonly durationMs: number | undefined;
  /** in how many traces */
  readonly failures: number;
}

interface PlacedPhase extends Phase {
  /** names from the root down, with a number behind those that are there more than once */
  readonly path: string;
}

/** Depth first, children in the order in which they began. */
export function phasesOf(recorded: RecordedTrace): Phase[] {
  return placed(recorded).map(({ path: _path, ...phase }) => phase);
}

function placed(recorded: RecordedTrace): PlacedPhase[] {
  const [root] = recorded;
  const children = Map.groupBy(recorded, ({ parentId }) => parentId);
  const walk = (span: RecordedSpan, path: string, depth: number): PlacedPhase[] => {
    const seen = new Map<string, number>();
    const below = (children.get(span.id) ?? []).flatMap((child) => {
      const number = (seen.get(child.name) ?? 0) + 1;
      seen.set(child.name, number);
      return walk(child, `${path}/${child.name}#${number}`, depth + 1);
    });
    const { name, startMs, endMs } = span;
    const failures = span.failed ? 1 : 0;
    const times = { offsetMs: startMs - root.startMs, durationMs: endMs === undefined ? undefined : endMs - startMs };
    return [{ name, depth, ...times, failures, path }, ...below];
  };
  return walk(root, root.name, 0);
}

/** The median of each phase that most of these traces have; in the order of the one that took the median time. */
export function medianPhases(traces: readonly RecordedTrace[]): Phase[] {
  const all = traces.map(placed).toSorted((a, b) => (a[0]?.durationMs ?? 0) - (b[0]?.durationMs ?? 0));
  const byPath = Map.groupBy(all.flat(), ({ path }) => path);
  const typical = all[Math.floor((all.length - 1) / 2)] ?? [];
  return typical
    .map(({ path, name, depth }) => ({ name, depth, same: byPath.get(path) ?? [] }))
    .filter(({ same }) => same.length * 2 > traces.length)
    .map(({ name, depth, same }) => ({
      name,
      depth,
      offsetMs: middle(same.map(({ offsetMs }) => offsetMs)) ?? 0,
      durationMs: middle(same.flatMap(({ durationMs }) => durationMs ?? [])),
      failures: same.reduce((sum, { failures }) => sum + failures, 0),
    }));
}

function middle(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}

const BAR_CHARS = 40;

/** A line a phase: indented name, start, duration, and a bar of which the whole width is the root's time. */
export function waterfall(phases: readonly Phase[]): string[] {
  const totalMs = phases[0]?.durationMs ?? 0;
  const failed = (count: number): string => (count === 0 ? '' : ` (${count} failed)`);
  const labels = phases.map(({ name, depth, failures }) => `${'  '.repeat(depth)}${name}${failed(failures)}`);
  const width = Math.max(...labels.map((label) => label.length));
  return phases.map(({ offsetMs, durationMs }, index) => {
    const label = (labels[index] ?? '').padEnd(width);
    const duration = durationMs === undefined ? 'goes on' : `${durationMs.toFixed(1)} ms`;
    return `${label}  ${`+${offsetMs.toFixed(1)}`.padStart(8)}  ${duration.padStart(10)}  ${bar(offsetMs, durationMs, totalMs)}`.trimEnd();
  });
}

/** Never empty, so that short phases are seen, too. */
function bar(offsetMs: number, durationMs: number | undefined, totalMs: number): string {
  const column = (ms: number): number => (totalMs > 0 ? Math.round((BAR_CHARS * ms) / totalMs) : 0);
  const from = Math.min(column(offsetMs), BAR_CHARS - 1);
  const to = Math.min(Math.max(column(offsetMs + (durationMs ?? totalMs)), from + 1), BAR_CHARS);
  return `${' '.repeat(from)}${'█'.repeat(to - from)}`;
}
