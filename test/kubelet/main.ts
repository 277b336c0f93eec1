/**
 * A real single-node cluster on this machine: etcd, kube-apiserver, a kubelet whose runtime is a real daemon, and kubectl.
 * `npm run test:kubelet`, or `bin/node test/kubelet/main.ts [--only SECTION]...` after `bin/setup kubelet`. Ends with `N passed, N failed`.
 */
import { deepStrictEqual } from 'node:assert/strict';
import { copyFile, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { TestDaemon } from '../support/daemon.ts';
import { countResources, type Resources } from '../support/resources.ts';
import { eventually } from '../support/steps.ts';
import { runStory } from '../support/story.ts';
import type { Kubelet } from './cluster/kubelet.ts';
import { KUBECTL } from './cluster/kubectl.ts';
import { firstPodRuns } from './steps/first-pod.ts';
import { gates } from './steps/gates.ts';
import { life } from './steps/life.ts';
import { network } from './steps/network.ts';
import { node } from './steps/node.ts';
import { probes } from './steps/probes.ts';
import { resources } from './steps/resources.ts';
import { restarts } from './steps/restarts.ts';
import { security } from './steps/security.ts';
import { staticPod } from './steps/static-pod.ts';
import { statistics } from './steps/statistics.ts';
import { streams } from './steps/streams.ts';
import { volumes } from './steps/volumes.ts';
import { SLOW_MS, startCluster, startDaemon, startNode, type World } from './world.ts';

const SECTIONS: Readonly<Record<string, (world: World) => Promise<void>>> = {
  'a pod': firstPodRuns,
  streams,
  life,
  probes,
  security,
  network,
  volumes,
  resources,
  'a static pod': staticPod,
  statistics,
  restarts,
  'feature gates': gates,
};
/** where the logs of the last run are */
const OUTPUT = join(import.meta.dirname, '../../.cache/kubelet');

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const options = { programs: [KUBECTL], hint: 'run bin/setup kubelet, or npm run test:kubelet' };
process.exitCode = await runStory(options, async ({ steps, lab, interrupted, watch, listenTo }) => {
  const daemon = await steps.need('docker-registry and bin/caisson serve', () => startDaemon(lab));
  watch(daemon);
  const { plane, directory } = await steps.need('etcd and kube-apiserver', () =>
    startCluster(lab, daemon, interrupted),
  );
  lab.defer(() => keepLogs(daemon, directory));
  const kubelet = await steps.need('kubelet', () => startNode(lab, directory, plane, daemon));
  const { kubectl } = plane;
  listenTo(kubectl);
  const world = { steps, daemon, plane, kubelet, kubectl };
  await steps.section('the node', () => node(world));
  const nothing = await podsResources(daemon, kubelet);
  await story(world);
  await steps.section('after all pods are deleted', () =>
    steps.check('no process, netns, veth, address, mount, disk or cgroup of theirs is left', async () => {
      await kubectl.ok('delete', 'pods', '--all', '--timeout=300s');
      await eventually(async () => deepStrictEqual(await podsResources(daemon, kubelet), nothing), SLOW_MS, 1000);
    }),
  );
});

async function story(world: World): Promise<void> {
  const { steps } = world;
  for (const [title, body] of Object.entries(SECTIONS)) {
    if (values.only === undefined || values.only.includes(title)) await steps.section(title, () => body(world));
  }
}

/** Without the mounts that each kubelet which starts makes of its own directory. */
async function podsResources(daemon: TestDaemon, { rootDir }: Kubelet): Promise<Resources> {
  const counted = await countResources(daemon);
  const targets = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((line) => line.split(' ')[4]);
  return { ...counted, mounts: counted.mounts - targets.filter((target) => target === rootDir).length };
}

async function keepLogs({ dir }: TestDaemon, directory: string): Promise<void> {
  await mkdir(OUTPUT, { recursive: true });
  await copyFile(join(dir, 'daemon.log'), join(OUTPUT, 'daemon.log'));
  const logs = (await readdir(directory)).filter((name) => name.endsWith('.log'));
  for (const name of logs) await copyFile(join(directory, name), join(OUTPUT, name));
  process.stdout.write(`logs: ${OUTPUT}\n`);
}
