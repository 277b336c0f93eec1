import { match, ok, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import { container, pod, statusOf, waitPhase, waitReady, withPod, type World, SLOW_MS } from '../world.ts';

/** How pods end. */
export async function life(world: World): Promise<void> {
  await ends(world);
  await neverBegins(world);
  await deletion(world);
}

async function ends({ steps, kubectl }: World): Promise<void> {
  await steps.check('a pod that ends well is Succeeded, its termination message in the status', async () => {
    const script = 'echo "the last words" >/dev/termination-log; echo done';
    await withPod(kubectl, pod('job', { restartPolicy: 'Never', containers: [container('job', script)] }), async () => {
      await waitPhase(kubectl, 'job', 'Succeeded');
      const { state } = await statusOf(kubectl, 'job', 'job');
      strictEqual(state.terminated?.reason, 'Completed');
      strictEqual(state.terminated?.message, 'the last words\n');
      strictEqual(await kubectl.ok('logs', 'job'), 'done');
    });
  });
  await steps.check(
    'one that ends badly is Failed, with exit code, and the end of its log as its message',
    async () => {
      const more = { terminationMessagePolicy: 'FallbackToLogsOnError' };
      const spec = { restartPolicy: 'Never', containers: [container('bad', 'echo it hurts; exit 42', more)] };
      await withPod(kubectl, pod('bad', spec), async () => {
        await waitPhase(kubectl, 'bad', 'Failed');
        const { state } = await statusOf(kubectl, 'bad', 'bad');
        strictEqual(state.terminated?.exitCode, 42);
        strictEqual(state.terminated?.reason, 'Error');
        strictEqual(state.terminated?.message, 'it hurts\n');
      });
    },
  );
  await steps.check('a container beyond its memory limit is OOMKilled', async () => {
    const limits = { resources: { limits: { memory: '32Mi' } } };
    const spec = { restartPolicy: 'Never', containers: [container('eater', 'tail /dev/zero', limits)] };
    await withPod(kubectl, pod('eater', spec), async () => {
      await waitPhase(kubectl, 'eater', 'Failed');
      const { state } = await statusOf(kubectl, 'eater', 'eater');
      strictEqual(state.terminated?.reason, 'OOMKilled');
      strictEqual(state.terminated?.exitCode, 137);
    });
  });
  await steps.check('a pod past its activeDeadlineSeconds is Failed, and its container gone', async () => {
    const spec = { restartPolicy: 'Never', activeDeadlineSeconds: 5, containers: [container('late', 'sleep 1000')] };
    await withPod(kubectl, pod('late', spec), async () => {
      await waitPhase(kubectl, 'late', 'Failed');
      strictEqual(await kubectl.ok('get', 'pod', 'late', '-o', 'jsonpath={.status.reason}'), 'DeadlineExceeded');
    });
  });
}

async function neverBegins({ steps, kubectl }: World): Promise<void> {
  await steps.check('an image that is not there: ErrImagePull', async () => {
    const image = 'docker.io/library/no-such-image:1.0';
    await withPod(kubectl, pod('imageless', { containers: [{ name: 'imageless', image }] }), async () => {
      await eventually(async () => {
        const { state } = await statusOf(kubectl, 'imageless', 'imageless');
        match(state.waiting?.reason ?? '', /^(ErrImagePull|ImagePullBackOff)$/);
        match(state.waiting?.message ?? '', /no-such-image/);
      }, SLOW_MS);
    });
  });
  await steps.check('a command that is not there: StartError, with its name', async () => {
    const missing = { ...container('missing', ''), command: ['/no/such/program'] };
    await withPod(kubectl, pod('missing', { restartPolicy: 'Never', containers: [missing] }), async () => {
      await waitPhase(kubectl, 'missing', 'Failed');
      const { state } = await statusOf(kubectl, 'missing', 'missing');
      match(state.terminated?.message ?? '', /no\/such\/program/);
      strictEqual(state.terminated?.reason, 'StartError');
    });
  });
}

async function deletion({ steps, kubectl }: World): Promise<void> {
  await steps.check('postStart and preStop run, and SIGTERM comes after preStop', async () => {
    const lifecycle = {
      postStart: { exec: { command: ['sh', '-c', 'echo postStart >/work/story'] } },
      preStop: { exec: { command: ['sh', '-c', 'echo preStop >>/work/story'] } },
    };
    const onTerm = 'echo "stopped after: $(cat /work/story | tr "\\n" " ")"; exit 0';
    const script = `trap '${onTerm}' TERM; while :; do sleep 1 & wait $!; done`;
    const spec = {
      terminationGracePeriodSeconds: 240,
      containers: [container('hooked', script, { lifecycle, volumeMounts: [{ name: 'work', mountPath: '/work' }] })],
      volumes: [{ name: 'work', emptyDir: {} }],
    };
    await kubectl.apply(pod('hooked', spec));
    await waitReady(kubectl, 'hooked');
    const client = kubectl.start('logs', '-f', 'hooked');
    let log = '';
    client.stdout.on('data', (chunk: Buffer) => (log += String(chunk)));
    const startedMs = performance.now();
    await kubectl.ok('delete', 'pod', 'hooked', '--timeout=300s');
    ok(performance.now() - startedMs < 240_000, 'it did not need its grace');
    client.kill();
    strictEqual(log, 'stopped after: postStart preStop \n');
  });
  await steps.check('a container that ignores SIGTERM is killed when its grace is over', async () => {
    const script = 'trap "" TERM; while :; do sleep 1; done';
    const spec = { terminationGracePeriodSeconds: 3, containers: [container('stubborn', script)] };
    await kubectl.apply(pod('stubborn', spec));
    await waitReady(kubectl, 'stubborn');
    const startedMs = performance.now();
    await kubectl.ok('delete', 'pod', 'stubborn', '--timeout=300s');
    ok(performance.now() - startedMs >= 3000);
  });
}
