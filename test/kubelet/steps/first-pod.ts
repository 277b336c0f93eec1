import { deepStrictEqual, match, ok, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import {
  configMap,
  container,
  inPod,
  pod,
  secret,
  statusOf,
  WAIT,
  waitReady,
  type PodObject,
  type World,
  SLOW_MS,
} from '../world.ts';

export const FIRST = 'first';
export const PAGE = 'a page from inside a VM';

const fieldRef = (fieldPath: string): object => ({ valueFrom: { fieldRef: { fieldPath } } });
const mount = (name: string, mountPath: string, more: object = {}): object => ({ name, mountPath, ...more });

/** One pod with most of what a pod can have. */
function firstPod(): object {
  const serve = `
    echo "words on stderr" >&2
    mkdir -p /tmp/www; echo '${PAGE}' >/tmp/www/index.html
    httpd -p 8080 -h /tmp/www
    echo "hello from $NAME"
    ${WAIT}`;
  return pod(FIRST, {
    automountServiceAccountToken: true,
    securityContext: { fsGroup: 2000 },
    initContainers: [
      container('first-init', 'echo made by init >/work/init'),
      container('sidecar', `date >/work/sidecar; ${WAIT}`, {
        restartPolicy: 'Always',
        volumeMounts: [mount('work', '/work')],
        startupProbe: { exec: { command: ['test', '-s', '/work/sidecar'] }, periodSeconds: 1 },
      }),
      container('second-init', 'test -s /work/sidecar'),
    ].map((one) => ({ volumeMounts: [mount('work', '/work')], ...one })),
    containers: [
      container('main', serve, {
        env: [
          { name: 'NAME', ...fieldRef('metadata.name') },
          { name: 'POD_IP', ...fieldRef('status.podIP') },
          { name: 'NODE', ...fieldRef('spec.nodeName') },
          { name: 'MEMORY', valueFrom: { resourceFieldRef: { resource: 'limits.memory' } } },
          { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'colour' } } },
          { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'password', key: 'value' } } },
        ],
        resources: { requests: { cpu: '100m' }, limits: { memory: '64Mi', cpu: '500m' } },
        ports: [{ containerPort: 8080 }],
        readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 },
        volumeMounts: [
          mount('work', '/work'),
          mount('settings', '/settings'),
          mount('password', '/password', { readOnly: true }),
          mount('memory', '/memory'),
          mount('token', '/token'),
          mount('about', '/about'),
          mount('settings', '/one/colour', { subPath: 'colour' }),
        ],
      }),
      container('second', WAIT, { volumeMounts: [mount('work', '/work')] }),
    ],
    volumes: [
      { name: 'work', emptyDir: {} },
      { name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '8Mi' } },
      { name: 'settings', configMap: { name: 'settings' } },
      { name: 'password', secret: { secretName: 'password', defaultMode: 0o440 } },
      { name: 'token', projected: { sources: [{ serviceAccountToken: { path: 'token', audience: 'caisson' } }] } },
      {
        name: 'about',
        downwardAPI: { items: [{ path: 'labels', ...{ fieldRef: { fieldPath: 'metadata.labels' } } }] },
      },
    ],
  });
}

export async function firstPodRuns({ steps, kubectl }: World): Promise<void> {
  await kubectl.apply(configMap('settings', { colour: 'red' }), secret('password', { value: 'open sesame' }));
  await steps.need('a pod with init containers, a sidecar, two containers and volumes becomes Ready', async () => {
    await kubectl.apply(firstPod());
    await waitReady(kubectl, FIRST);
  });
  await steps.check('its status is whole', async () => {
    const { status } = await kubectl.json<PodObject>('get', 'pod', FIRST);
    strictEqual(status.phase, 'Running');
    for (const name of ['main', 'second', 'sidecar']) {
      const one = await statusOf(kubectl, FIRST, name);
      ok(one.ready, name);
      strictEqual(one.restartCount, 0);
      match(one.containerID ?? '', /^caisson:\/\/[\da-f]{64}$/);
      match(one.imageID, /sha256:[\da-f]{64}$/);
    }
    strictEqual((await statusOf(kubectl, FIRST, 'first-init')).state.terminated?.reason, 'Completed');
  });
  await steps.check('its environment is what fieldRef, ConfigMap and Secret say', async () => {
    const { status } = await kubectl.json<PodObject>('get', 'pod', FIRST);
    const script = 'echo "$NAME $POD_IP $NODE $MEMORY $COLOUR $PASSWORD"';
    const printed = await inPod(kubectl, FIRST, 'sh', '-c', script);
    strictEqual(printed, `first ${status.podIP} caisson-test 67108864 red open sesame`);
  });
  await steps.check('its volumes hold what they should', async () => {
    const cat = (path: string) => inPod(kubectl, FIRST, 'cat', path);
    strictEqual(await cat('/work/init'), 'made by init');
    strictEqual(await cat('/settings/colour'), 'red');
    strictEqual(await cat('/one/colour'), 'red');
    strictEqual(await cat('/password/value'), 'open sesame');
    strictEqual(await cat('/about/labels'), 'app="first"');
    match(await cat('/token/token'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
    match(await cat('/var/run/secrets/kubernetes.io/serviceaccount/token'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
    strictEqual(await cat('/var/run/secrets/kubernetes.io/serviceaccount/namespace'), 'default');
    strictEqual(await inPod(kubectl, FIRST, 'stat', '-L', '-c', '%a %g', '/password/value'), '440 2000');
    const read = await kubectl.run(['exec', FIRST, '--', 'sh', '-c', 'echo x >/password/new']);
    match(read.stderr, /Read-only file system/);
  });
  await steps.check('its memory-backed emptyDir is a tmpfs of the size that was asked for', async () => {
    const mounts = await inPod(kubectl, FIRST, 'grep', ' /memory ', '/proc/mounts');
    match(mounts, /^\S+ \/memory tmpfs .*size=8192k/);
  });
  await steps.check('hosts and hostname are the pod’s', async () => {
    const { status } = await kubectl.json<PodObject>('get', 'pod', FIRST);
    strictEqual(await inPod(kubectl, FIRST, 'hostname'), FIRST);
    match(await inPod(kubectl, FIRST, 'cat', '/etc/hosts'), new RegExp(`^${status.podIP}\\s+first$`, 'm'));
  });
  await steps.check('a change of the ConfigMap arrives in the pod', async () => {
    await kubectl.apply(configMap('settings', { colour: 'green' }));
    await eventually(
      async () => strictEqual(await inPod(kubectl, FIRST, 'cat', '/settings/colour'), 'green'),
      SLOW_MS,
      1000,
    );
    deepStrictEqual(await inPod(kubectl, FIRST, 'cat', '/one/colour'), 'red');
  });
}
