import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { availableMemoryMib } from '../../src/vm/grow.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countResources, processesOf, settledResources, type Resources } from '../support/resources.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const SIZE = 2;

interface Pool {
  readonly size: number;
  readonly ready: number;
  readonly reason: string;
}

async function poolOf({ cri }: TestDaemon): Promise<Pool> {
  const { info } = await cri.runtime.Status({ verbose: true });
  return JSON.parse(info['info'] ?? '{}').pool;
}

/** Returns when the pool is as wanted; its VMs are made at low priority, so a busy machine takes its time. */
async function untilPool(daemon: TestDaemon, wanted: (pool: Pool) => boolean, withinMs = 180_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const pool = await poolOf(daemon);
    if (wanted(pool)) return;
    if (Date.now() > deadline) assert.fail(`the pool stays at ${JSON.stringify(pool)}`);
    await sleep(50);
  }
}

const isFull = ({ ready, size }: Pool): boolean => ready === size;
const qemus = async (daemon: TestDaemon): Promise<number[]> =>
  (await processesOf(daemon)).filter(({ name }) => name.startsWith('qemu-system')).map(({ pid }) => pid);

describe('VMs that wait for pods', { skip }, () => {
  let daemon: TestDaemon;
  let empty: Resources;
  let full: Resources;

  before(async () => {
    daemon = await startTestDaemon({ config: { vm: { pool: SIZE } } });
    await untilPool(daemon, isFull);
    full = await countResources(daemon);
    empty = { ...full, qemu: 0, vsockHelpers: 0, vmProcesses: 0, netns: 0, vmDirectories: 0, scratchDisks: 0 };
  });
  after(() => daemon?.[Symbol.asyncDispose]());

  it('are whole machines, each in its own netns and with its own disk', () => {
    assert.deepEqual(
      { qemu: full.qemu, netns: full.netns, disks: full.scratchDisks, ports: full.bridgePorts },
      { qemu: SIZE, netns: SIZE, disks: SIZE, ports: 0 },
    );
  });

  it('become pods, with another one made in their place', async () => {
    const waiting = await qemus(daemon);
    const pod = await pods.runPod(daemon, 'from-pool', { hostname: 'from-pool' });
    const id = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    assert.equal(
      (await pods.sh(daemon, id, 'hostname; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo up')).stdout,
      'from-pool\nup\n',
    );
    await untilPool(daemon, isFull);
    const now = await qemus(daemon);
    assert.equal(now.length, SIZE + 1);
    assert.ok(
      waiting.every((pid) => now.includes(pid)),
      'the pod took one that had waited',
    );
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
    assert.deepEqual(await settledResources(daemon, full), full);
  });

  it('are not used up by a request that is refused', async () => {
    const pod = await pods.runPod(daemon, 'twin');
    await untilPool(daemon, isFull);
    const held = await qemus(daemon);
    await assert.rejects(pods.runPod(daemon, 'twin'), /already exists/);
    assert.deepEqual(await qemus(daemon), held);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });

  it('are replaced when they die, and never handed out', async () => {
    await untilPool(daemon, isFull);
    const dead = await qemus(daemon);
    for (const pid of dead) process.kill(pid, 'SIGKILL');
    const pod = await pods.runPod(daemon, 'after-death');
    const id = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    assert.equal((await pods.sh(daemon, id, 'echo alive')).stdout, 'alive\n');
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
    await untilPool(daemon, isFull);
    assert.deepEqual(await settledResources(daemon, full), full);
    assert.ok((await qemus(daemon)).every((pid) => !dead.includes(pid)));
  });

  it('of a daemon that was killed are removed by the next one', async () => {
    await untilPool(daemon, isFull);
    const left = await qemus(daemon);
    await daemon.stop('SIGKILL');
    await daemon.restart();
    await untilPool(daemon, isFull);
    assert.deepEqual(await settledResources(daemon, full), full);
    assert.ok((await qemus(daemon)).every((pid) => !left.includes(pid)));
  });

  it('end with the daemon', async () => {
    await daemon.stop();
    assert.deepEqual(await settledResources(daemon, empty), empty);
  });
});

describe('a host that is short of memory', { skip }, () => {
  it('gives up VMs that wait, and fills the pool again when there is memory', async () => {
    const reserve = Math.floor(await availableMemoryMib()) - 2000;
    await using daemon = await startTestDaemon({ config: { vm: { pool: 1, memory_reserve_mib: reserve } } });
    await untilPool(daemon, isFull);
    // touched, so that it is really taken
    let ballast: Buffer | undefined = Buffer.alloc(3000 * 1024 * 1024, 1);
    await untilPool(daemon, ({ ready, reason }) => ready === 0 && reason.includes('short of memory'));
    assert.equal(ballast.at(-1), 1);
    await assert.rejects(pods.runPod(daemon, 'too-much'), /RESOURCE_EXHAUSTED.*MiB of memory to spare/);
    ballast = undefined;
    globalThis.gc?.();
    if (globalThis.gc) await untilPool(daemon, isFull);
  });
});
