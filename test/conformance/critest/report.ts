import { readFile } from 'node:fs/promises';
import { isHostsLack, isMeasurement, skipReason } from './skips.ts';

/** How a spec went. */
export interface SpecResult {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped' | 'unfocused';
  /** the first line of a failure, or why it was skipped; empty when it passed */
  readonly reason: string;
  /** a skip that a feature of ours would have prevented */
  readonly avoidable: boolean;
}

export interface Summary {
  readonly specs: readonly SpecResult[];
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** what was wrong with the run as a whole, such as a timeout */
  readonly troubles: readonly string[];
}

/** The parts of ginkgo's JSON report that count; Go writes null for an empty list. */
interface GinkgoReport {
  readonly SpecialSuiteFailureReasons: readonly string[] | null;
  readonly SpecReports: readonly GinkgoSpec[] | null;
}

interface GinkgoSpec {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeType: string;
  readonly LeafNodeText: string;
  readonly State: string;
  readonly Failure?: { readonly Message?: string };
}

export async function readReport(file: string): Promise<Summary> {
  return summarize(JSON.parse(await readFile(file, 'utf8')) as GinkgoReport[]);
}

export function summarize(suites: readonly GinkgoReport[]): Summary {
  const reports = suites.flatMap(({ SpecReports }) => SpecReports ?? []);
  const specs = reports
    .filter(({ LeafNodeType }) => LeafNodeType === 'It')
    .map(specResult)
    .filter(({ name }) => !isMeasurement(name))
    .toSorted((a, b) => a.name.localeCompare(b.name, 'en'));
  const count = (state: SpecResult['state']): number => specs.filter((spec) => spec.state === state).length;
  const troubles = [
    ...suites.flatMap(({ SpecialSuiteFailureReasons }) => SpecialSuiteFailureReasons ?? []),
    // set-up and clean-up of the whole suite
    ...reports.filter((node) => node.LeafNodeType !== 'It' && isFailure(node.State)).map(failureOf),
  ];
  return { specs, passed: count('passed'), failed: count('failed'), skipped: count('skipped'), troubles };
}

function specResult(spec: GinkgoSpec): SpecResult {
  const name = [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ');
  if (spec.State === 'passed') return { name, state: 'passed', reason: '', avoidable: false };
  if (spec.State !== 'skipped') return { name, state: 'failed', reason: failureOf(spec), avoidable: false };
  const own = spec.Failure?.Message;
  if (own) return { name, state: 'skipped', reason: firstLine(own), avoidable: !isHostsLack(name) };
  const ours = skipReason(name);
  if (ours !== undefined) return { name, state: 'skipped', reason: ours, avoidable: false };
  return { name, state: 'unfocused', reason: '', avoidable: false };
}

const isFailure = (state: string): boolean => state !== 'passed' && state !== 'skipped' && state !== '';

const failureOf = ({ State, Failure }: GinkgoSpec): string => firstLine(Failure?.Message || State);

function firstLine(text: string): string {
  const [line = ''] = text.trim().split('\n');
  return line.trim();
}
