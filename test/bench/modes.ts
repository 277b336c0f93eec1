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

/** With a pool, each of `atOnce` pods finds a VM waiting. */
export const modesOf = (atOnce: number): readonly Mode[] => [
  { name: 'warm pool', vm: { template: true, pool: atOnce }, operations: OPERATIONS, parallel: true },
  { name: 'clone', vm: { template: true, pool: 0 }, operations: ['RunPodSandbox'], parallel: false },
];

/** The one in which idle pods are measured: nothing runs but the pods themselves. */
export const IDLE_MODE = 'clone';
