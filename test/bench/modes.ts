import type { ConfigOverrides } from '../support/daemon.ts';
import { OPERATIONS, type Operation } from './operations.ts';

/** A way in which Caisson's pods start, and what is measured with it. */
export interface Mode {
  readonly name: string;
  readonly vm: NonNullable<ConfigOverrides['vm']>;
  /** of which figures are reported: a way to start does not change how pods run and end */
  readonly operations: readonly Operation[];
  /** many pods at once, too */
  readonly parallel: boolean;
}

export const MODES: readonly Mode[] = [
  { name: 'clone', vm: { template: true }, operations: OPERATIONS, parallel: true },
];

/** The one in which idle pods are measured: nothing runs but the pods themselves. */
export const IDLE_MODE = 'clone';
