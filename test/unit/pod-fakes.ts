import assert from 'node:assert/strict';
import type { AgentClient } from '../../src/agent/contracts.ts';
import type { Config } from '../../src/config/schema.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { makeContext, type PodContext } from '../../src/pod/context.ts';
import type { ContainerRecord, SandboxRecord, SpareRecord } from '../../src/pod/records.ts';
import { Registry } from '../../src/pod/registry.ts';
import { noSamples } from '../../src/pod/stats/sampler.ts';
import type { Collection } from '../../src/state/contracts.ts';
import type { StoragePort, VolumePort } from '../../src/storage/contracts.ts';
import type { VmPort } from '../../src/vm/contracts.ts';
import { fakeImages, image, recordingLog, type LogLine } from './cri-fakes.ts';

/** Stands in for what a test has no use for: whatever is asked of it is an error. */
export function useless<T extends object>(what: string, parts: Partial<T> = {}): T {
  const get = (target: Partial<T>, name: string | symbol): unknown => {
    if (name in target) return target[name as keyof T];
    if (name === 'then' || typeof name === 'symbol') return undefined; // the language asks for these
    throw new Error(`the test did not expect ${what}.${name}`);
  };
  return new Proxy(parts, { get }) as T;
}

export function inMemory<T>(): Collection<T> {
  const known = new Set<string>();
  const update = (id: string): void => {
    if (!known.has(id)) throw new CaissonError('not_found', `there is no ${id}`);
  };
  return { insert: (id) => void known.add(id), update, delete: (id) => void known.delete(id), all: () => [] };
}

export const POD = 'a'.repeat(64);
export const CONTAINER = 'c'.repeat(64);
export const SIZE = { vcpus: 1, memoryMib: 256 };

/** Everything but one sandbox, POD, which is ready, is in memory or missing; `parts` take the place of what is missing. */
export function contextWith(
  agent: Partial<AgentClient>,
  parts: Partial<PodContext> = {},
): { readonly context: PodContext; readonly logged: LogLine[] } {
  const logged: LogLine[] = [];
  const unstored = (_id: string, error: unknown): never => assert.fail(String(error));
  const context = makeContext({
    config: useless<Config>('config', {
      cdi: { spec_dirs: [] },
      apparmor: { profile_dir: '/etc/apparmor.d', profiles: 'auto' },
    }),
    log: recordingLog(logged),
    images: fakeImages({ find: () => image('', { layers: [] }), hold: () => ({ [Symbol.dispose]: () => undefined }) }),
    network: useless('network'),
    storage: useless<StoragePort>('storage', { removeScratch: async () => undefined }),
    volumes: useless<VolumePort>('volumes', { discard: async () => undefined }),
    vms: useless<VmPort>('vms', { sizes: { least: SIZE, most: SIZE }, discard: async () => undefined }),
    cgroups: useless('cgroups'),
    connectAgent: () => assert.fail('no agent is to be dialled'),
    sandboxes: new Registry<SandboxRecord>('sandbox', inMemory(), unstored),
    containers: new Registry<ContainerRecord>('container', inMemory(), unstored),
    spares: new Registry<SpareRecord>('spare', inMemory(), unstored),
    ...parts,
  });
  context.sandboxes.insert(POD, 'pod', sandboxRecord());
  context.liveSandboxes.set(POD, {
    vm: useless('vm'),
    agent: useless('agent', agent),
    samples: noSamples(),
    counters: async () => undefined,
    stopping: false,
    standstill: undefined,
    unknown: false,
    share: undefined,
  });
  return { context, logged };
}

/** Of one that is ready. */
export function sandboxRecord(): SandboxRecord {
  const asked = { resources: null, overhead: null };
  return {
    state: 'ready',
    namespaceOptions: null,
    logDirectory: '',
    size: SIZE,
    ...asked,
  } as Partial<SandboxRecord> as SandboxRecord;
}
