import { match, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import {
  container,
  heartbeat,
  inPod,
  pod,
  statusOf,
  WAIT,
  waitPhase,
  waitReady,
  withPod,
  type World,
  SLOW_MS,
} from '../world.ts';

/** Features of the kubelet that change how it talks to a runtime, and are off by default. */
const featureGates = {
  // it waits for GetContainerEvents instead of asking each second
  EventedPLEG: true,
  // lists come in pieces
  CRIListStreaming: true,
  ContainerStopSignals: true,
  PodAndContainerStatsFromCRI: true,
};

export async function gates(world: World): Promise<void> {
  const { steps, kubectl, kubelet } = world;
  await steps.need(`a kubelet with ${Object.keys(featureGates).join(', ')}`, async () => {
    await kubelet.stop();
    await kubelet.start({ featureGates });
    await heartbeat(world);
  });
  await steps.check('a pod that ends is noticed', async () => {
    const spec = { restartPolicy: 'Never', containers: [container('brief', 'sleep 3; exit 5')] };
    await withPod(kubectl, pod('brief', spec), async () => {
      await waitPhase(kubectl, 'brief', 'Failed');
      strictEqual((await statusOf(kubectl, 'brief', 'brief')).state.terminated?.exitCode, 5);
    });
  });
  await steps.check('a container that ends is started again, and the pod deleted', async () => {
    const script = `[ -e /keep/once ] && { ${WAIT}; }; touch /keep/once; sleep 2; exit 1`;
    const volumeMounts = [{ name: 'keep', mountPath: '/keep' }];
    const spec = {
      containers: [container('again', script, { volumeMounts })],
      volumes: [{ name: 'keep', emptyDir: {} }],
    };
    await withPod(kubectl, pod('again', spec), async () => {
      await eventually(
        async () => {
          const status = await statusOf(kubectl, 'again', 'again');
          strictEqual(status.restartCount, 1);
          strictEqual(status.ready, true);
        },
        SLOW_MS,
        1000,
      );
      match(await inPod(kubectl, 'again', 'ls', '/keep'), /^once$/);
    });
    strictEqual(await kubectl.ok('get', 'pods', '--field-selector=metadata.name=again', '-o', 'name'), '');
  });
  await kubelet.stop();
  await kubelet.start();
  await heartbeat(world);
  await steps.check('without them again', async () => {
    await withPod(kubectl, pod('usual', { containers: [container('usual', WAIT)] }), () => waitReady(kubectl, 'usual'));
  });
}
