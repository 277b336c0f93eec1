import { deepStrictEqual, notStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { processesOf } from '../../support/resources.ts';
import { eventually } from '../../support/steps.ts';
import { container, heartbeat, inPod, NODE, pod, statusOf, waitReady, withPod, type World, SLOW_MS } from '../world.ts';

/** What keeps running while the kubelet or the daemon does not. */
export async function restarts(world: World): Promise<void> {
  const { steps, kubectl, kubelet, daemon } = world;
  const counter = 'n=0; while :; do echo $((n += 1)); sleep 0.5; done';
  await withPod(kubectl, pod('lasting', { containers: [container('lasting', counter)] }), async () => {
    await steps.need('a pod that counts', () => waitReady(kubectl, 'lasting'));
    const before = await statusOf(kubectl, 'lasting', 'lasting');
    const isTheSame = async (): Promise<void> => {
      // a kubelet that has just begun does not know its pods yet
      await eventually(() => inPod(kubectl, 'lasting', 'true'), SLOW_MS, 1000);
      const after = await statusOf(kubectl, 'lasting', 'lasting');
      strictEqual(after.containerID, before.containerID);
      strictEqual(after.restartCount, 0);
      const lines = (await kubectl.ok('logs', 'lasting')).split('\n');
      deepStrictEqual(
        lines,
        lines.map((_, index) => String(index + 1)),
        'no line of the log is lost',
      );
    };
    await steps.check('the kubelet is started again: the pod goes on', async () => {
      await kubelet.stop();
      await kubelet.start();
      await heartbeat(world);
      await isTheSame();
    });
    await steps.check(
      'the daemon is started again under the kubelet: the pod goes on, the node is Ready again',
      async () => {
        await daemon.restart();
        await heartbeat(world);
        await kubectl.ok('wait', '--for=condition=Ready', `node/${NODE}`, '--timeout=300s');
        await isTheSame();
      },
    );
    await steps.check('without the daemon the node is not Ready; with it, it is again', async () => {
      await daemon.stop();
      await kubectl.ok('wait', '--for=condition=Ready=false', `node/${NODE}`, '--timeout=300s');
      await daemon.restart();
      await kubectl.ok('wait', '--for=condition=Ready', `node/${NODE}`, '--timeout=300s');
      await isTheSame();
    });
    await steps.check('the VM is killed: the kubelet makes the pod anew', async () => {
      const [qemu] = (await vmsOf(world)).slice(-1);
      ok(qemu);
      process.kill(qemu.pid, 'SIGKILL');
      await eventually(
        async () => {
          const after = await statusOf(kubectl, 'lasting', 'lasting');
          ok(after.ready);
          notStrictEqual(after.containerID, before.containerID);
        },
        SLOW_MS,
        1000,
      );
      await inPod(kubectl, 'lasting', 'true');
    });
  });
}

/** The daemon has one VM only, or its youngest is the last. */
async function vmsOf({ daemon }: World) {
  return (await processesOf(daemon))
    .filter(({ name }) => name.startsWith('qemu-system'))
    .toSorted((a, b) => a.pid - b.pid);
}
