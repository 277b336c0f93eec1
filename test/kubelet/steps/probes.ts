import { ok, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import {
  container,
  inPod,
  pod,
  statusOf,
  WAIT,
  waitReady,
  withPod,
  SLOW_MS,
  type ContainerStatus,
  type World,
} from '../world.ts';

export async function probes({ steps, kubectl }: World): Promise<void> {
  await steps.check('a liveness probe that fails restarts the container, with a new file system', async () => {
    const exec = { command: ['test', '!', '-e', '/tmp/sick'] };
    const livenessProbe = { exec, periodSeconds: 2, timeoutSeconds: 10, failureThreshold: 2 };
    const spec = { containers: [container('fragile', `echo start; ${WAIT}`, { livenessProbe })] };
    await withPod(kubectl, pod('fragile', spec), async () => {
      await waitReady(kubectl, 'fragile');
      await inPod(kubectl, 'fragile', 'touch', '/tmp/sick');
      const restarted = await until(kubectl, 'fragile', (status) => status.restartCount === 1 && status.ready);
      strictEqual(restarted.lastState.terminated?.exitCode, 0, 'SIGTERM ends it well');
      strictEqual(await kubectl.ok('logs', 'fragile', '--previous'), 'start');
      await inPod(kubectl, 'fragile', 'test', '!', '-e', '/tmp/sick');
    });
  });
  await steps.check('a container that keeps failing is started again, and waits longer each time', async () => {
    await withPod(kubectl, pod('hasty', { containers: [container('hasty', 'exit 1')] }), async () => {
      const waiting = await until(kubectl, 'hasty', ({ state }) => state.waiting?.reason === 'CrashLoopBackOff');
      ok(waiting.restartCount >= 1);
      strictEqual(waiting.lastState.terminated?.exitCode, 1);
    });
  });
  await steps.check('a readiness probe by HTTP: ready while the page is there', async () => {
    const httpGet = { path: '/page', port: 80 };
    const readinessProbe = { httpGet, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 };
    const script = `mkdir /tmp/www; httpd -p 80 -h /tmp/www; ${WAIT}`;
    await withPod(kubectl, pod('web', { containers: [container('web', script, { readinessProbe })] }), async () => {
      await until(kubectl, 'web', (status) => status.state.running !== undefined);
      strictEqual((await statusOf(kubectl, 'web', 'web')).ready, false);
      await inPod(kubectl, 'web', 'touch', '/tmp/www/page');
      await waitReady(kubectl, 'web');
      await inPod(kubectl, 'web', 'rm', '/tmp/www/page');
      await kubectl.ok('wait', '--for=condition=Ready=false', 'pod/web', '--timeout=300s');
    });
  });
}

/** The status of the pod's container of the same name, once it is as it should be. */
async function until(
  kubectl: World['kubectl'],
  name: string,
  isSo: (status: ContainerStatus) => boolean,
): Promise<ContainerStatus> {
  return eventually(
    async () => {
      const status = await statusOf(kubectl, name, name);
      ok(isSo(status), JSON.stringify(status));
      return status;
    },
    SLOW_MS,
    500,
  );
}
