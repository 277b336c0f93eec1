import { deepStrictEqual, match, ok, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import type { ContainerInspection, ContainerList } from './output.ts';
import { BUSYBOX, WEB, configFile, containerConfig, type World } from './world.ts';

/** What people do with crictl beyond the life of one pod. */
export async function beyond(world: World): Promise<void> {
  const { steps, crictl } = world;
  // YAML and no more than what must be in it: crictl makes up the uid
  const pod = await configFile(world, 'second-pod.yaml', 'metadata: { name: second-pod, namespace: crictl }\n');
  const oneShot = await configFile(world, 'one-shot.json', {
    ...containerConfig('one-shot', BUSYBOX, ['sh', '-c', 'echo done; exit 0']),
  });
  const id = await steps.need('run: a pod and a container in one, with a pull', async () => {
    await crictl.ok('run', '--with-pull', oneShot, pod);
    const { containers } = await crictl.json<ContainerList>('ps', '-a', '--name', 'one-shot');
    strictEqual(containers.length, 1);
    return containers[0]!.id;
  });
  await steps.check('its end is seen: Completed', async () => {
    await eventually(async () => {
      const { status } = await crictl.json<ContainerInspection>('inspect', id);
      strictEqual(status.state, 'CONTAINER_EXITED');
      strictEqual(status.exitCode, 0);
      strictEqual(status.reason, 'Completed');
    });
  });
  await steps.check('logs of a pod without a log directory: crictl says so', async () => {
    await crictl.fails(/the container has not set log path/, 'logs', id);
  });
  await steps.check('run of a command that is not there: the container says StartError, 127 or 128', async () => {
    const broken = await configFile(world, 'broken.json', containerConfig('broken', BUSYBOX, ['/no/such/command']));
    const [podId = ''] = (await crictl.ok('pods', '-q', '--name', 'second-pod')).split('\n');
    const container = await crictl.ok('create', podId, broken, pod);
    await crictl.fails(/no\/such\/command/, 'start', container);
    const { status } = await crictl.json<ContainerInspection>('inspect', container);
    strictEqual(status.state, 'CONTAINER_EXITED');
    ok([127, 128].includes(status.exitCode), `exit code ${status.exitCode}`);
  });
  await steps.check('stop --all without a timeout kills: exit code 137', async () => {
    const file = await configFile(world, 'sleeper.json', containerConfig('sleeper', BUSYBOX, ['sleep', '4321']));
    const [podId = ''] = (await crictl.ok('pods', '-q', '--name', 'second-pod')).split('\n');
    const sleeper = await crictl.ok('create', podId, file, pod);
    await crictl.ok('start', sleeper);
    strictEqual(await crictl.ok('stop', '--all'), sleeper);
    const { status } = await crictl.json<ContainerInspection>('inspect', sleeper);
    deepStrictEqual([status.state, status.exitCode], ['CONTAINER_EXITED', 137]);
  });
  await steps.check('rmi --prune leaves the images of containers', async () => {
    await crictl.ok('rmi', '--prune');
    await crictl.lists([world.busybox.configDigest], 'images');
    await crictl.ok('pull', WEB);
  });
  await steps.check('rmp --force --all', async () => {
    await crictl.ok('rmp', '--force', '--all');
    await crictl.lists([], 'pods');
    await crictl.lists([], 'ps', '-a');
  });
  for (const args of [['stats'], ['statsp'], ['metricsp'], ['update', '--cpu-quota', '1000', id]]) {
    await steps.check(`${args[0]}: works, or says by name what is not implemented`, async () => {
      const { exitCode, stderr } = await crictl.run(...args);
      if (exitCode !== 0) match(stderr, /\w+ is not implemented by caisson \d|NotFound/);
    });
  }
  await steps.check('update-runtime-config takes a pod CIDR and refuses nonsense', async () => {
    await crictl.ok('update-runtime-config', '--pod-cidr', '10.85.0.0/24');
    await crictl.fails(/InvalidArgument.*nonsense/, 'update-runtime-config', '--pod-cidr', 'nonsense');
  });
}
