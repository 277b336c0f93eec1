/** What a guest says when a new daemon takes its VM over, and may say on purpose. */
import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { AgentClient, AgentInfo } from '../../src/agent/contracts.ts';
import type { PodContext } from '../../src/pod/context.ts';
import type { ContainerRecord } from '../../src/pod/records.ts';
import { recover } from '../../src/pod/recover.ts';
import type { VolumePort } from '../../src/storage/contracts.ts';
import type { Vm, VmPort, VmRecord } from '../../src/vm/contracts.ts';
import { image, type LogLine } from './cri-fakes.ts';
import { CONTAINER, contextWith, POD, sandboxRecord, SIZE, useless } from './pod-fakes.ts';

const OTHER_POD = 'b'.repeat(64);
const OTHER_CONTAINER = 'd'.repeat(64);
const forever = new Promise<never>(() => undefined);
const EXIT = { code: 0, finishedAtNs: '0', oomKilled: false };

type Told = AgentInfo['containers'];

/** A daemon that finds both pods' VMs, each with its container, as `agents` answer for them. */
function restarted(agents: Readonly<Record<string, Partial<AgentClient>>>): {
  readonly context: PodContext;
  readonly logged: LogLine[];
} {
  const vm = (agentSocket: string): Vm =>
    useless<Vm>('vm', { agentSocket, exited: forever, record: useless<VmRecord>('vm record', { pid: 1 }) });
  const { context, logged } = contextWith(
    {},
    {
      vms: useless<VmPort>('vms', { sizes: { least: SIZE, most: SIZE }, adopt: async (id) => vm(id) }),
      volumes: useless<VolumePort>('volumes', { adopt: async () => undefined, exists: async () => false }),
      connectAgent: (socket) => useless('agent', agents[socket] ?? {}),
    },
  );
  context.liveSandboxes.clear();
  context.sandboxes.insert(OTHER_POD, 'other pod', sandboxRecord());
  for (const id of [POD, OTHER_POD]) context.sandboxes.update(id, { vm: useless<VmRecord>('vm record') });
  const record = {
    state: 'running',
    imageId: image('').id,
    mounts: [],
    logPath: '',
    startedAt: '1',
    finishedAt: '0',
  } as const;
  for (const [id, sandboxId] of [
    [CONTAINER, POD],
    [OTHER_CONTAINER, OTHER_POD],
  ] as const)
    context.containers.insert(id, id, { ...record, sandboxId } as Partial<ContainerRecord> as ContainerRecord);
  return { context, logged };
}

const agent = (containers: Told, parts: Partial<AgentClient> = {}): Partial<AgentClient> => ({
  info: async () => useless<AgentInfo>('info', { containers }),
  output: () => forever,
  waitContainer: () => forever,
  ...parts,
});

const running = (id: string): Told[number] => ({ id, started: true, exit: null });

describe('a guest that a new daemon finds', () => {
  it("has no say about another pod's container", async () => {
    const removed: string[] = [];
    const waited: string[] = [];
    const hostile = agent([running(CONTAINER), { id: OTHER_CONTAINER, started: true, exit: EXIT }], {
      removeContainer: async (id) => void removed.push(id),
      waitContainer: (id) => (waited.push(id), forever),
    });
    const { context } = restarted({ [POD]: hostile, [OTHER_POD]: agent([running(OTHER_CONTAINER)]) });
    await recover(context);
    assert.deepEqual([removed, waited], [[OTHER_CONTAINER], [CONTAINER]]);
    assert.equal(context.containers.get(OTHER_CONTAINER).state, 'running');
  });

  it('is followed once for each container, however often it names it', async () => {
    const waited: string[] = [];
    const twice = agent([running(CONTAINER), running(CONTAINER)], {
      waitContainer: (id) => (waited.push(id), forever),
    });
    const { context } = restarted({ [POD]: twice, [OTHER_POD]: agent([running(OTHER_CONTAINER)]) });
    await recover(context);
    assert.deepEqual(waited, [CONTAINER]);
  });

  it('does not keep the daemon from starting by an end that it never tells, or a removal that it never ends', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      const silent = agent([{ id: CONTAINER, started: true, exit: EXIT }, running('e'.repeat(64))], {
        removeContainer: () => forever,
      });
      const { context, logged } = restarted({ [POD]: silent, [OTHER_POD]: agent([running(OTHER_CONTAINER)]) });
      const recovered = recover(context);
      for (let turn = 0; turn < 5; turn++) await setImmediate();
      mock.timers.tick(10_000);
      await recovered;
      assert.equal(context.sandboxes.get(POD).state, 'ready');
      assert.deepEqual(
        logged.map(({ level }) => level),
        ['warn'],
      );
    } finally {
      mock.timers.reset();
    }
  });

  it('loses no pod when what is left of a container cannot be removed', async () => {
    const full = agent([running(CONTAINER), running('e'.repeat(64))], {
      removeContainer: () => Promise.reject(new Error('no space left')),
    });
    const { context, logged } = restarted({ [POD]: full, [OTHER_POD]: agent([running(OTHER_CONTAINER)]) });
    await recover(context);
    assert.equal(context.sandboxes.get(POD).state, 'ready');
    assert.equal(context.containers.get(CONTAINER).state, 'running');
    assert.deepEqual(
      logged.map(({ level }) => level),
      ['warn'],
    );
  });

  it('tells when a container ended while nobody looked, as far as that can be true', async () => {
    const startedAt = 1_700_000_000_000_000_000n;
    const cases: readonly (readonly [bigint, bigint | 'now'])[] = [
      [startedAt + 5n, startedAt + 5n],
      [startedAt - 5n, startedAt],
      [0n, 'now'],
      [-5n, 'now'],
      [2n ** 63n - 1n, 'now'],
    ];
    for (const [told, expected] of cases) {
      const ended = agent(
        [running(CONTAINER)].map((one) => ({ ...one, exit: EXIT })),
        {
          output: async () => undefined,
          waitContainer: async () => ({ ...EXIT, finishedAtNs: String(told) }),
        },
      );
      const { context } = restarted({ [POD]: ended, [OTHER_POD]: agent([running(OTHER_CONTAINER)]) });
      context.containers.update(CONTAINER, { startedAt: String(startedAt) });
      const before = BigInt(Date.now()) * 1_000_000n;
      await recover(context);
      const { state, finishedAt } = context.containers.get(CONTAINER);
      assert.equal(state, 'exited');
      if (expected === 'now') assert.ok(BigInt(finishedAt) >= before, finishedAt);
      else assert.equal(finishedAt, String(expected));
    }
  });

  it('is complained of once, however often it does not tell how a container ends', async () => {
    let asked = 0;
    const stubborn = agent([running(CONTAINER)], {
      waitContainer: () => (++asked > 2 ? Promise.resolve(EXIT) : Promise.reject(new Error('not now'))),
      output: async () => undefined,
    });
    const { context, logged } = restarted({ [POD]: stubborn, [OTHER_POD]: agent([running(OTHER_CONTAINER)]) });
    await recover(context);
    await context.liveContainers.get(CONTAINER)?.ended;
    assert.equal(context.containers.get(CONTAINER).state, 'exited');
    assert.deepEqual(
      logged.map(({ level }) => level),
      ['warn', 'debug'],
    );
  });
});
