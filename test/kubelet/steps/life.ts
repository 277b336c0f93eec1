import { match, ok, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import {
  container,
  inPod,
  pod,
  statusOf,
  WAIT,
  waitPhase,
  waitReady,
  type ContainerStatus,
  type World,
} from '../world.ts';

export async function life(world: World): Promise<void> {
  const { steps, kubectl } = world;
  await steps.check('a pod that ends well is Succeeded, its termination message in the status', async () => {
    const script = 'echo "the last words" >/dev/termination-log; echo done';
    await kubectl.apply(pod('job', { restartPolicy: 'Never', containers: [container('job', script)] }));
    await waitPhase(kubectl, 'job', 'Succeeded');
    const { state } = await statusOf(kubectl, 'job', 'job');
    strictEqual(state.terminated?.reason, 'Completed');
    strictEqual(state.terminated?.message, 'the last words\n');
    strictEqual(await kubectl.ok('logs', 'job'), 'done');
  });
  await steps.check(
    'one that ends badly is Failed, with exit code, and the end of its log as its message',
    async () => {
      const more = { terminationMessagePolicy: 'FallbackToLogsOnError' };
      const spec = { restartPolicy: 'Never', containers: [container('bad', 'echo it hurts; exit 42', more)] };
      await kubectl.apply(pod('bad', spec));
      await waitPhase(kubectl, 'bad', 'Failed');
      const { state } = await statusOf(kubectl, 'bad', 'bad');
      strictEqual(state.terminated?.exitCode, 42);
      strictEqual(state.terminated?.reason, 'Error');
      strictEqual(state.terminated?.message, 'it hurts\n');
    },
  );
  await steps.check('a container beyond its memory limit is OOMKilled', async () => {
    const limits = { resources: { limits: { memory: '32Mi' } } };
    const spec = { restartPolicy: 'Never', containers: [container('eater', 'tail /dev/zero', limits)] };
    await kubectl.apply(pod('eater', spec));
    await waitPhase(kubectl, 'eater', 'Failed');
    const { state } = await statusOf(kubectl, 'eater', 'eater');
    strictEqual(state.terminated?.reason, 'OOMKilled');
    strictEqual(state.terminated?.exitCode, 137);
  });
  await steps.check('an image that is not there: ErrImagePull', async () => {
    const image = 'docker.io/library/no-such-image:1.0';
    await kubectl.apply(pod('imageless', { containers: [{ name: 'imageless', image }] }));
    await eventually(async () => {
      const { state } = await statusOf(kubectl, 'imageless', 'imageless');
      match(state.waiting?.reason ?? '', /^(ErrImagePull|ImagePullBackOff)$/);
      match(state.waiting?.message ?? '', /no-such-image/);
    }, 60_000);
  });
  await steps.check('a command that is not there: RunContainerError or StartError, with its name', async () => {
    const missing = { ...container('missing', ''), command: ['/no/such/program'] };
    await kubectl.apply(pod('missing', { restartPolicy: 'Never', containers: [missing] }));
    await waitPhase(kubectl, 'missing', 'Failed');
    const { state } = await statusOf(kubectl, 'missing', 'missing');
    match(state.terminated?.message ?? '', /no\/such\/program/);
    strictEqual(state.terminated?.reason, 'StartError');
  });
  await probes(world);
  await deletion(world);
}

async function probes({ steps, kubectl }: World): Promise<void> {
  await steps.check('a liveness probe that fails restarts the container, with a new file system', async () => {
    const livenessProbe = {
      exec: { command: ['test', '!', '-e', '/tmp/sick'] },
      periodSeconds: 1,
      failureThreshold: 2,
    };
    const script = `echo "start"; ${WAIT}`;
    const spec = { containers: [container('fragile', script, { livenessProbe })] };
    await kubectl.apply(pod('fragile', spec));
    await waitReady(kubectl, 'fragile');
    await inPod(kubectl, 'fragile', 'touch', '/tmp/sick');
    const restarted = await until(kubectl, 'fragile', (status) => status.restartCount === 1 && status.ready);
    strictEqual(restarted.lastState.terminated?.exitCode, 0, 'SIGTERM ends it well');
    strictEqual(await kubectl.ok('logs', 'fragile', '--previous'), 'start');
  });
  await steps.check('a container that keeps failing is started again, and waits longer each time', async () => {
    await kubectl.apply(pod('hasty', { containers: [container('hasty', 'exit 1')] }));
    const waiting = await until(kubectl, 'hasty', (status) => status.state.waiting?.reason === 'CrashLoopBackOff');
    ok(waiting.restartCount >= 1);
    strictEqual(waiting.lastState.terminated?.exitCode, 1);
  });
  await steps.check('a readiness probe by HTTP: ready while the page is there', async () => {
    const readinessProbe = { httpGet: { path: '/page', port: 80 }, periodSeconds: 1, failureThreshold: 1 };
    const script = `mkdir /tmp/www; httpd -p 80 -h /tmp/www; ${WAIT}`;
    await kubectl.apply(pod('web', { containers: [container('web', script, { readinessProbe })] }));
    await until(kubectl, 'web', (status) => status.state.running !== undefined);
    strictEqual((await statusOf(kubectl, 'web', 'web')).ready, false);
    await inPod(kubectl, 'web', 'touch', '/tmp/www/page');
    await waitReady(kubectl, 'web');
    await inPod(kubectl, 'web', 'rm', '/tmp/www/page');
    await kubectl.ok('wait', '--for=condition=Ready=false', 'pod/web', '--timeout=60s');
  });
}

async function deletion({ steps, kubectl }: World): Promise<void> {
  await steps.check('postStart and preStop run, and SIGTERM comes after preStop', async () => {
    const lifecycle = {
      postStart: { exec: { command: ['sh', '-c', 'echo postStart >/work/story'] } },
      preStop: { exec: { command: ['sh', '-c', 'echo preStop >>/work/story'] } },
    };
    const script = `trap 'echo "stopped after: $(cat /work/story | tr "\\n" " ")"; exit 0' TERM; while :; do sleep 1 & wait $!; done`;
    const spec = {
      terminationGracePeriodSeconds: 20,
      containers: [container('hooked', script, { lifecycle, volumeMounts: [{ name: 'work', mountPath: '/work' }] })],
      volumes: [{ name: 'work', emptyDir: {} }],
    };
    await kubectl.apply(pod('hooked', spec));
    await waitReady(kubectl, 'hooked');
    const client = kubectl.start('logs', '-f', 'hooked');
    let log = '';
    client.stdout.on('data', (chunk: Buffer) => (log += String(chunk)));
    const startedMs = performance.now();
    await kubectl.ok('delete', 'pod', 'hooked', '--timeout=60s');
    ok(performance.now() - startedMs < 15_000, 'it did not need its grace');
    client.kill();
    strictEqual(log, 'stopped after: postStart preStop \n');
  });
  await steps.check('a container that ignores SIGTERM is killed when its grace is over', async () => {
    const script = 'trap "" TERM; while :; do sleep 1; done';
    await kubectl.apply(
      pod('stubborn', { terminationGracePeriodSeconds: 3, containers: [container('stubborn', script)] }),
    );
    await waitReady(kubectl, 'stubborn');
    const startedMs = performance.now();
    await kubectl.ok('delete', 'pod', 'stubborn', '--timeout=60s');
    ok(performance.now() - startedMs >= 3000);
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
    120_000,
    500,
  );
}
