/** What a metric is, and how its values are found; the names are those of cAdvisor, which the kubelet's users know. */
import type { CgroupSample, ContainerStatsView, SandboxStatsView } from '../../../pod/contracts.ts';

/** One container that runs, or all of a pod together. */
export interface Subject {
  readonly sample: CgroupSample;
  readonly pod: SandboxStatsView;
  /** undefined for the pod as a whole */
  readonly container: ContainerStatsView | undefined;
}

export interface Reading {
  /** of the family's own labels, in their order */
  readonly labels?: readonly string[];
  /** whole, as the contract has it; seconds are cut */
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'COUNTER' | 'GAUGE';
  /** besides those that every metric has */
  readonly labels: readonly string[];
  /** nothing where the subject has no such number */
  readonly read: (subject: Subject) => readonly Reading[];
}

export const counter = (name: string, help: string, read: (subject: Subject) => number | undefined): Family =>
  single('COUNTER', name, help, read);

export const gauge = (name: string, help: string, read: (subject: Subject) => number | undefined): Family =>
  single('GAUGE', name, help, read);

function single(
  type: Family['type'],
  name: string,
  help: string,
  read: (subject: Subject) => number | undefined,
): Family {
  return {
    name,
    help,
    type,
    labels: [],
    read: (subject) => {
      const value = read(subject);
      return value === undefined ? [] : [{ value }];
    },
  };
}

export const secondsOf = (microseconds: number): number => microseconds / 1_000_000;
