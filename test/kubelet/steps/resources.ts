import { match, ok, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import {
  container,
  inPod,
  pod,
  statusOf,
  WAIT,
  waitReady,
  withPod,
  type PodObject,
  type World,
  SLOW_MS,
} from '../world.ts';
import { cgroupsOfProcesses } from '../../support/resources.ts';

const NAME = 'sized';

/** A pod with limits, in the RuntimeClass of deploy/runtimeclass.yaml, and its change while it runs. */
export async function resources(world: World): Promise<void> {
  const { steps, kubectl } = world;
  const spec = {
    runtimeClassName: 'caisson',
    containers: [
      container(NAME, WAIT, {
        resources: { requests: { cpu: '500m', memory: '64Mi' }, limits: { cpu: '500m', memory: '64Mi' } },
      }),
    ],
  };
  await withPod(kubectl, pod(NAME, spec), async () => {
    await steps.need('a pod of RuntimeClass caisson gets its overhead', async () => {
      await waitReady(kubectl, NAME);
      const overhead = await kubectl.ok('get', 'pod', NAME, '-o', 'jsonpath={.spec.overhead.memory}');
      strictEqual(overhead, '448Mi');
    });
    await steps.check('its VM runs in the pod’s own cgroup, which the kubelet has made', async () => {
      const { metadata } = await kubectl.json<PodObject>('get', 'pod', NAME);
      const cgroups = await cgroupsOfProcesses(world.daemon);
      ok(
        cgroups.some((path) => path.includes(`pod${metadata.uid}`)),
        cgroups.join(' '),
      );
    });
    await steps.check('its container has the limits, inside', async () => {
      strictEqual(await limitsOf(world), '50000 100000 67108864');
    });
    await steps.check('resize in place: more processor time and memory, the same container', async () => {
      const before = await statusOf(kubectl, NAME, NAME);
      await resize(world, { cpu: '800m', memory: '96Mi' });
      await eventually(async () => {
        const { resources: now } = await statusOf(kubectl, NAME, NAME);
        strictEqual(now?.limits?.['memory'], '96Mi');
        strictEqual(now?.limits?.['cpu'], '800m');
      }, SLOW_MS);
      strictEqual(await limitsOf(world), '80000 100000 100663296');
      const after = await statusOf(kubectl, NAME, NAME);
      strictEqual(after.containerID, before.containerID);
      strictEqual(after.restartCount, 0);
    });
    await steps.check('resize in place: less again', async () => {
      await resize(world, { cpu: '300m', memory: '48Mi' });
      await eventually(async () => {
        const { resources: now } = await statusOf(kubectl, NAME, NAME);
        strictEqual(now?.limits?.['memory'], '48Mi');
      }, SLOW_MS);
      strictEqual(await limitsOf(world), '30000 100000 50331648');
    });
    await steps.check('nothing is deferred or refused', async () => {
      const conditions = await kubectl.ok('get', 'pod', NAME, '-o', 'jsonpath={.status.conditions[*].type}');
      ok(!/PodResize/.test(conditions), conditions);
    });
    await steps.check('a debug container sees the processes of its target', () => debug(world));
  });
}

async function resize({ kubectl }: World, limits: Readonly<Record<string, string>>): Promise<void> {
  const patch = { spec: { containers: [{ name: NAME, resources: { requests: limits, limits } }] } };
  await kubectl.ok('patch', 'pod', NAME, '--subresource', 'resize', '--patch', JSON.stringify(patch));
}

/** quota and period in µs, memory in bytes, by the guest's cgroup */
async function limitsOf({ kubectl }: World): Promise<string> {
  const script = 'cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max';
  return (await inPod(kubectl, NAME, 'sh', '-c', script)).replace('\n', ' ');
}

async function debug({ kubectl }: World): Promise<void> {
  const script = 'for p in /proc/[0-9]*; do tr "\\\\0" " " <$p/cmdline; echo; done; echo seen';
  const image = await kubectl.ok('get', 'pod', NAME, '-o', 'jsonpath={.spec.containers[0].image}');
  await kubectl.ok(
    'debug',
    NAME,
    `--image=${image}`,
    `--target=${NAME}`,
    '--container=looker',
    '--',
    'sh',
    '-c',
    script,
  );
  const ended = '{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}';
  await kubectl.ok('wait', `--for=jsonpath=${ended}=0`, `pod/${NAME}`, '--timeout=300s');
  match(await kubectl.ok('logs', NAME, '-c', 'looker'), /trap "exit 0" TERM[^]*seen$/);
}
