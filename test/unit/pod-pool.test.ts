/** VMs that wait for pods, when something goes wrong with them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import type { AgentClient } from '../../src/agent/contracts.ts';
import type { Config } from '../../src/config/schema.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { NetworkPort } from '../../src/network/contracts.ts';
import type { PodSandboxConfig } from '../../src/pod/contracts.ts';
import { sandboxName } from '../../src/pod/names.ts';
import { rehearse } from '../../src/pod/rehearse.ts';
import { runSandbox } from '../../src/pod/run-sandbox.ts';
import type { Shell } from '../../src/pod/shell.ts';
import { WarmPool } from '../../src/pod/warm-pool.ts';
import type { StoragePort } from '../../src/storage/contracts.ts';
import type { CgroupPort, Vm, VmPort } from '../../src/vm/contracts.ts';
import { contextWith, sandboxRecord, SIZE, useless } from './pod-fakes.ts';

const never = new AbortController().signal;

const { RuntimeService } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1;
const codec = RuntimeService.service.RunPodSandbox;

function config(): PodSandboxConfig {
  const fields = { metadata: { name: 'web', namespace: 'shop', uid: 'u' } };
  const request = codec.requestDeserialize(codec.requestSerialize({ config: fields }));
  return (request as unknown as { config: PodSandboxConfig }).config;
}

/** A pool of one VM, none of which ever starts; resolves when that has been tried. */
async function poolWithout(teardown: NetworkPort['teardown']) {
  const tried = Promise.withResolvers<void>();
  const { context, logged } = contextWith(
    {},
    {
      config: useless<Config>('config', { vm: useless<Config['vm']>('config.vm', { pool: 1, uid_base: 1000 }) }),
      network: useless<NetworkPort>('network', {
        prepare: async () => ({ netnsPath: '/run/netns/x', tapName: 'tap0' }),
        teardown,
      }),
      storage: useless<StoragePort>('storage', {
        createScratch: async () => '/x',
        removeScratch: async () => undefined,
      }),
      vms: useless<VmPort>('vms', {
        sizes: { least: SIZE, most: SIZE },
        settled: Promise.resolve(),
        spareMemoryMib: async () => 10_000,
        start: () => {
          tried.resolve();
          return Promise.reject(new CaissonError('unavailable', 'no VM today'));
        },
      }),
    },
  );
  const pool = new WarmPool(context);
  await tried.promise;
  await pool[Symbol.asyncDispose]();
  return { context, logged };
}

describe('a VM for the pool that does not start', () => {
  it('leaves nothing', async () => {
    const { context } = await poolWithout(async () => undefined);
    assert.deepEqual([...context.spares.entries()], []);
  });

  it('stays on record when it cannot be undone, for the next daemon to try again', async () => {
    const { context, logged } = await poolWithout(() => Promise.reject(new Error('the plugin is stuck')));
    assert.equal([...context.spares.entries()].length, 1);
    assert.ok(logged.some(({ level }) => level === 'error'));
  });
});

describe('a VM of the pool that is taken for a pod', () => {
  it('is off the record when the name turns out to be taken and it has been undone', async () => {
    const identity = { id: 'e'.repeat(64), cid: 5, uid: 1001 };
    const gone = { [Symbol.asyncDispose]: async () => undefined };
    const vm = useless<Vm>('vm', {
      exited: new Promise<never>(() => undefined),
      hurry: async () => undefined,
      ...gone,
    });
    const agent = useless<AgentClient>('agent', { [Symbol.dispose]: () => undefined });
    const shell: Shell = { identity, netns: { netnsPath: '', tapName: '' }, vm, agent };
    const { context } = contextWith(
      {},
      {
        network: useless<NetworkPort>('network', { teardown: async () => undefined }),
        vms: useless<VmPort>('vms', {
          sizes: { least: SIZE, most: SIZE },
          memoryOf: () => ({ kind: 'copied', reason: '' }),
        }),
        cgroups: useless<CgroupPort>('cgroups', {
          // meanwhile another call for the same pod is quicker
          place: async () => {
            context.sandboxes.insert('f'.repeat(64), sandboxName(config()), sandboxRecord());
            return '/pods';
          },
          remove: async () => undefined,
        }),
      },
    );
    context.spares.insert(identity.id, identity.id, { version: 1, cid: 5, uid: 1001 });
    await assert.rejects(
      runSandbox(context, () => shell, config(), '', never),
      { code: 'already_exists' },
    );
    assert.deepEqual([...context.spares.entries()], []);
  });
});

describe('a rehearsal', () => {
  it('whose VM dies fails once, whatever else was under way in it', async () => {
    const died = new CaissonError('unavailable', 'the VM of the pod is gone');
    const agent = useless<AgentClient>('agent', {
      rehearseNetwork: async () => undefined,
      createContainer: async () => ({ uid: 0, gid: 0, supplementalGroups: [] }),
      startContainer: async () => ({ exited: new Promise(() => undefined) }),
      output: () => Promise.reject(died),
      execSync: () => Promise.reject(died),
      removeContainer: async () => undefined,
    });
    // a rejection that nobody handles would fail this test, and end the daemon
    const vm = useless<Vm>('vm', { attachDisk: async () => undefined });
    await assert.rejects(rehearse({ vm, agent }, '/guest', never), died);
    await setImmediate();
  });
});
