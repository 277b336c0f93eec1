/** What meets in time, with guests and stores that live in memory: each order that a VM would show once in a thousand. */
import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import type { AgentClient, AgentExit, ExecOutcome } from '../../src/agent/contracts.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { NetworkPort } from '../../src/network/contracts.ts';
import type { PodContext } from '../../src/pod/context.ts';
import type { ContainerConfig } from '../../src/pod/contracts.ts';
import { createContainer } from '../../src/pod/create-container.ts';
import { execSync } from '../../src/pod/exec-sync.ts';
import { unpauseContainer } from '../../src/pod/pause-container.ts';
import type { ContainerRecord } from '../../src/pod/records.ts';
import { recover } from '../../src/pod/recover.ts';
import { removeSandbox } from '../../src/pod/remove-sandbox.ts';
import { startContainer } from '../../src/pod/start-container.ts';
import { startSandbox } from '../../src/pod/start-sandbox.ts';
import { stopContainer } from '../../src/pod/stop-container.ts';
import { endContainers } from '../../src/pod/supervise.ts';
import { vmExec } from '../../src/pod/vm-exec.ts';
import { image } from './cri-fakes.ts';
import { CONTAINER, contextWith, POD, useless } from './pod-fakes.ts';

const never = new AbortController().signal;

const { RuntimeService } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1;
const codec = RuntimeService.service.CreateContainer;

function config(): ContainerConfig {
  const fields = { metadata: { name: 'web' }, image: { image: 'nginx' } };
  const request = codec.requestDeserialize(codec.requestSerialize({ config: fields }));
  return (request as unknown as { config: ContainerConfig }).config;
}

/** A container that runs and never ends by itself. */
function withRunningContainer(agent: Partial<AgentClient>): PodContext {
  const { context } = contextWith(agent);
  const record = { sandboxId: POD, state: 'running', stopSignalNumber: 15 } as const;
  context.containers.insert(CONTAINER, 'container', useless<ContainerRecord>('record', { paused: false, ...record }));
  context.liveContainers.set(CONTAINER, { log: undefined, ended: new Promise<void>(() => undefined) });
  return context;
}

describe('a container that is made while its pod is stopped', () => {
  it('is no container: the caller is told, and nothing of it stays', async () => {
    let removed = 0;
    const { context } = contextWith({
      createContainer: async () => {
        const live = context.liveSandboxes.get(POD);
        assert.ok(live);
        live.stopping = true;
        endContainers(context, POD, 'Error', 'the pod was stopped');
        return { uid: 0, gid: 0, supplementalGroups: [] };
      },
      removeContainer: async () => void removed++,
    });
    const made = createContainer(context, POD, config(), null, never);
    await assert.rejects(made, { code: 'failed_precondition', message: /not ready/ });
    assert.deepEqual([[...context.containers.entries()].length, context.imageHolds.size, removed], [0, 0, 1]);
  });

  it('says why it was not made, also when the guest is gone before it can be removed', async () => {
    const { context, logged } = contextWith({
      createContainer: async () => {
        context.liveSandboxes.delete(POD);
        return { uid: 0, gid: 0, supplementalGroups: [] };
      },
      removeContainer: () => Promise.reject(new CaissonError('unavailable', 'the guest agent is gone')),
    });
    await assert.rejects(createContainer(context, POD, config(), null, never), { code: 'failed_precondition' });
    assert.equal([...context.containers.entries()].length, 0);
    assert.equal(logged.filter(({ level }) => level === 'warn').length, 1);
  });
});

describe('stopping a container', () => {
  for (const timeoutMs of [0, 10_000])
    it(`with ${timeoutMs} ms is done when somebody else has removed it meanwhile`, async () => {
      const signalContainer = () => Promise.reject(new CaissonError('not_found', 'it is not in this VM'));
      const context = withRunningContainer({ signalContainer });
      await stopContainer(context, CONTAINER, timeoutMs, never);
    });

  it('waits for a start that is under way, and stops what it has started', async () => {
    const begun = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<AgentExit>();
    const { context } = contextWith({
      startContainer: async () => {
        begun.resolve();
        await setImmediate();
        return { exited: ended.promise };
      },
      output: () => Promise.resolve(),
      signalContainer: async (_id, signal) => {
        ended.resolve({ code: 128 + signal, finishedAtNs: '0', oomKilled: false });
        return { ignored: false };
      },
    });
    const record = { sandboxId: POD, state: 'created', stopSignalNumber: 15, logPath: '' } as const;
    context.containers.insert(CONTAINER, 'container', record as Partial<ContainerRecord> as ContainerRecord);
    const started = startContainer(context, CONTAINER);
    await begun.promise;
    await stopContainer(context, CONTAINER, 0, never);
    const { state, exitCode } = context.containers.get(CONTAINER);
    assert.deepEqual([state, exitCode], ['exited', 137]);
    await started;
  });

  it('asks for the end when the call that would have told it is lost', async () => {
    const lost = Promise.reject(new CaissonError('unavailable', 'the connection is lost'));
    lost.catch(() => undefined);
    const { context } = contextWith({
      startContainer: async () => ({ exited: lost }),
      output: () => Promise.resolve(),
      waitContainer: async () => ({ code: 3, finishedAtNs: '0', oomKilled: false }),
    });
    const record = { sandboxId: POD, state: 'created', logPath: '' } as const;
    context.containers.insert(CONTAINER, 'container', record as Partial<ContainerRecord> as ContainerRecord);
    await startContainer(context, CONTAINER);
    await context.liveContainers.get(CONTAINER)?.ended;
    const { state, exitCode } = context.containers.get(CONTAINER);
    assert.deepEqual([state, exitCode], ['exited', 3]);
  });

  it('fails when the guest does not answer', async () => {
    const signalContainer = () => Promise.reject(new CaissonError('unavailable', 'the guest agent is gone'));
    const context = withRunningContainer({ signalContainer });
    await assert.rejects(stopContainer(context, CONTAINER, 0, never), { code: 'unavailable' });
  });
});

describe('thawing a container', () => {
  it('has nothing to do for one that has ended meanwhile', async () => {
    const context = withRunningContainer({});
    context.containers.update(CONTAINER, { state: 'exited', paused: true });
    await unpauseContainer(context, CONTAINER);
  });
});

describe('a pod that is removed', () => {
  it('cannot be started again in between: its record goes with it', async () => {
    const { context } = contextWith(
      {},
      { network: useless<NetworkPort>('network', { teardown: () => setImmediate() }) },
    );
    context.liveSandboxes.clear();
    context.sandboxes.update(POD, { state: 'notready', hasResources: true, vm: null });
    const removed = removeSandbox(context, POD);
    const started = startSandbox(context, POD, never);
    await assert.rejects(started, { code: 'not_found' });
    await removed;
    assert.equal(context.sandboxes.has(POD), false);
  });
});

describe('a daemon that was ended while it stopped a pod', () => {
  it('leaves the next one no container that could still be started', async () => {
    const { context } = contextWith({});
    context.liveSandboxes.clear();
    context.sandboxes.update(POD, { state: 'notready' });
    const record = { sandboxId: POD, state: 'created', imageId: image('').id, mounts: [], finishedAt: '0' } as const;
    context.containers.insert(CONTAINER, 'container', record as Partial<ContainerRecord> as ContainerRecord);
    await recover(context);
    assert.equal(context.containers.get(CONTAINER).state, 'exited');
  });
});

describe('a command in the VM itself', () => {
  const request = { command: ['true'], tty: false, stdin: false, stdout: true, stderr: true };

  it('whose client leaves while it begins leaves nothing: what the guest is at is waited for, then removed', async () => {
    const order: string[] = [];
    const slowly = async (what: string): Promise<void> => {
      await setImmediate();
      order.push(what);
    };
    const { context } = contextWith({
      createContainer: async (_settings, signal) => {
        assert.equal(signal.aborted, false);
        await slowly('created');
        return { uid: 0, gid: 0, supplementalGroups: [] };
      },
      startContainer: async () => {
        await slowly('started');
        return { exited: new Promise(() => undefined) };
      },
      removeContainer: () => slowly('removed'),
    });
    const client = new AbortController();
    const session = vmExec(context, POD, request, client.signal);
    client.abort();
    await assert.rejects(session, { code: 'cancelled' });
    assert.deepEqual(order, ['created', 'started', 'removed']);
  });
});

describe('ExecSync in a guest that hangs', () => {
  it('is given up some time after its own is over, and cancelled', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      let cancelled = false;
      const hangs = (...[, , , , signal]: Parameters<AgentClient['execSync']>): Promise<ExecOutcome> => {
        signal.addEventListener('abort', () => (cancelled = true));
        return new Promise(() => undefined);
      };
      const context = withRunningContainer({ execSync: hangs });
      const answer = execSync(context, CONTAINER, ['true'], 5000, never);
      mock.timers.tick(20_000); // a slow guest may still be at work
      assert.equal(cancelled, false);
      mock.timers.tick(20_000);
      await assert.rejects(answer, { code: 'deadline_exceeded', message: /guest/ });
      assert.equal(cancelled, true);
    } finally {
      mock.timers.reset();
    }
  });

  it('waits for as long as was asked for, however long that is', async () => {
    const outcome = { stdout: Buffer.from('x'), stderr: Buffer.alloc(0), exitCode: 3, timedOut: false };
    const slow = () => new Promise<ExecOutcome>((resolve) => setTimeout(resolve, 20, outcome));
    const context = withRunningContainer({ execSync: slow });
    for (const timeoutMs of [0, 2 ** 31 - 1])
      assert.equal((await execSync(context, CONTAINER, ['true'], timeoutMs, never)).exitCode, 3);
  });
});
