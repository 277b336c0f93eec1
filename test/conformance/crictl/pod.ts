import { deepStrictEqual, match, ok, strictEqual } from 'node:assert/strict';
import { configFile, podConfig, WEB_PORT, type World } from './world.ts';
import type { PodInspection, PodList } from './output.ts';

export interface Pod {
  readonly id: string;
  readonly ip: string;
  /** path of its configuration, which `crictl create` wants again */
  readonly config: string;
  readonly hostPort: number;
}

const NAME = 'first-pod';
const LABELS = { app: 'web', 'tier/of.it': 'front' };
const ANNOTATIONS = { note: 'commas, "quotes" and\na line feed', empty: '' };

export async function runPod(world: World, hostPort: number): Promise<Pod> {
  const { steps, crictl, daemon } = world;
  const config = await configFile(
    world,
    'pod.json',
    podConfig(world, NAME, {
      labels: LABELS,
      annotations: ANNOTATIONS,
      dns_config: { servers: ['192.0.2.53'], searches: ['test.example'] },
      port_mappings: [{ protocol: 0, container_port: WEB_PORT, host_port: hostPort }],
    }),
  );
  await steps.check('pods: none yet', async () => {
    deepStrictEqual((await crictl.json<PodList>('pods')).items, []);
  });
  await steps.check('runp with a runtime handler that is not there names those that are', async () => {
    await crictl.fails(/InvalidArgument.*nope.*caisson/, 'runp', '--runtime', 'nope', config);
  });
  await steps.check('runp with the network of the host is refused in so many words', async () => {
    const linux = { security_context: { namespace_options: { network: 2 } } };
    const host = await configFile(world, 'host-pod.json', podConfig(world, 'host-pod', { linux }));
    await crictl.fails(/InvalidArgument.*network/, 'runp', host);
    await crictl.lists([], 'pods');
  });
  const id = await steps.need('runp', async () => {
    const printed = await crictl.ok('runp', '--runtime', 'caisson', config);
    match(printed, /^[\da-f]{64}$/);
    return printed;
  });
  await steps.check('runp again with the same name: AlreadyExists', async () => {
    await crictl.fails(/AlreadyExists.*first-pod/, 'runp', config);
  });

  await steps.check('pods', async () => {
    const { items } = await crictl.json<PodList>('pods');
    strictEqual(items.length, 1);
    const { createdAt, ...pod } = items[0]!;
    ok(Math.abs(Number(createdAt) / 1e6 - Date.now()) < 120_000, `created at ${createdAt}`);
    deepStrictEqual(pod, {
      id,
      metadata: { name: NAME, uid: `uid-of-${NAME}`, namespace: 'crictl', attempt: 1 },
      state: 'SANDBOX_READY',
      labels: LABELS,
      annotations: ANNOTATIONS,
      runtimeHandler: 'caisson',
    });
    match(await crictl.ok('pods'), /^POD ID.*\n[\da-f]{13} .* Ready +first-pod +crictl +1 +caisson/m);
  });
  await steps.check('pods by state, label, name, namespace and id', async () => {
    await crictl.lists([id], 'pods', '--state', 'ready');
    await crictl.lists([], 'pods', '--state', 'notready');
    await crictl.lists([id], 'pods', '--no-trunc', '--label', 'app=web', '--label', 'tier/of.it=front');
    await crictl.lists([], 'pods', '--label', 'app=other');
    await crictl.lists([id], 'pods', '--name', 'first');
    await crictl.lists([], 'pods', '--name', 'second');
    await crictl.lists([id], 'pods', '--namespace', 'crictl', '--latest');
    await crictl.lists([id], 'pods', '--id', id.slice(0, 10));
    await crictl.lists([], 'pods', '--id', 'ffff');
  });
  const ip = await steps.need('inspectp: state and address', async () => {
    const { status, info } = await crictl.json<PodInspection>('inspectp', id);
    strictEqual(status.id, id);
    strictEqual(status.state, 'SANDBOX_READY');
    deepStrictEqual(status.labels, LABELS);
    deepStrictEqual(status.annotations, ANNOTATIONS);
    ok(status.network.ip.startsWith(`${daemon.cni.prefix4}.`), `address ${status.network.ip}`);
    deepStrictEqual(status.network.additionalIps, []);
    ok(Object.keys(info).length > 0, 'no verbose information');
    return status.network.ip;
  });
  await steps.check('inspectp by a part of the id, as go-template, YAML and table', async () => {
    const short = id.slice(0, 8);
    strictEqual(await crictl.ok('inspectp', '-o', 'go-template', '--template', '{{.status.network.ip}}', short), ip);
    match(await crictl.ok('inspectp', '-o', 'yaml', short), new RegExp(`^  id: ${id}$`, 'm'));
    match(await crictl.ok('inspectp', '-o', 'table', short), /^Status: SANDBOX_READY$/m);
  });
  await steps.check('inspectp of an unknown id: NotFound', async () => {
    await crictl.fails(/NotFound.*0123456789/, 'inspectp', '0123456789');
  });
  return { id, ip, config, hostPort };
}

export async function stopPod({ steps, crictl }: World, pod: Pod, containers: readonly string[]): Promise<void> {
  await steps.check('rmp of a running pod is refused by crictl', async () => {
    await crictl.fails(/is running, please stop it first/, 'rmp', pod.id);
  });
  await steps.check('stopp', async () => {
    match(await crictl.ok('stopp', pod.id), new RegExp(pod.id));
    const { status } = await crictl.json<PodInspection>('inspectp', pod.id);
    strictEqual(status.state, 'SANDBOX_NOTREADY');
  });
  await steps.check('the stopped pod and its containers are still listed', async () => {
    await crictl.lists([pod.id], 'pods', '--state', 'notready');
    await crictl.lists([], 'ps');
    await crictl.lists(containers, 'ps', '-a', '--state', 'exited');
  });
  await steps.check('stopp again changes nothing', async () => {
    await crictl.ok('stopp', pod.id);
  });
  await steps.check('exec in a stopped pod fails at once', async () => {
    await crictl.fails(/FailedPrecondition/, 'exec', '-s', containers[0] ?? '', 'true');
  });
  await steps.check('rmp', async () => {
    match(await crictl.ok('rmp', pod.id), new RegExp(pod.id));
    await crictl.lists([], 'pods');
    await crictl.lists([], 'ps', '-a');
  });
  await steps.check('rmp again: NotFound; stopp of what is gone is fine', async () => {
    await crictl.fails(/NotFound/, 'rmp', pod.id);
    await crictl.ok('stopp', pod.id);
  });
}
