import { configSchema } from '../../src/config/schema.ts';
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

/** Enough that each of many pods at once finds a VM waiting. */
const POOL = 8;
const hasPool = 'pool' in configSchema.parse({}).vm;
const noPool = { template: true, ...(hasPool && { pool: 0 }) };

export const MODES: readonly Mode[] = hasPool
  ? [
      { name: 'warm pool', vm: { ...noPool, pool: POOL } as Mode['vm'], operations: OPERATIONS, parallel: true },
      { name: 'clone', vm: noPool, operations: ['RunPodSandbox'], parallel: false },
    ]
  : [{ name: 'clone', vm: noPool, operations: OPERATIONS, parallel: true }];

/** The one in which idle pods are measured: nothing runs but the pods themselves. */
export const IDLE_MODE = 'clone';
