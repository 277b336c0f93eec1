/**
 * A real single-node cluster on this machine: etcd, kube-apiserver, a kubelet whose runtime is a real daemon, and kubectl.
 * `npm run test:kubelet`, or `bin/node test/kubelet/main.ts [--only SECTION]...` after `bin/setup kubelet`. Ends with `N passed, N failed`.
 */
import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { copyFile, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { exists } from '../../src/lib/files.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { countResources, netnsOf, processesOf, type Resources } from '../support/resources.ts';
import { eventually, Steps } from '../support/steps.ts';
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
const LOG_TAIL_LINES = 25;

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());
process.stdout.on('error', () => interrupted.abort());
process.exitCode = await main();

async function main(): Promise<number> {
  if (!(await exists(KUBECTL))) {
    process.stderr.write(`${KUBECTL} is missing; run bin/setup kubelet, or npm run test:kubelet\n`);
    return 1;
  }
  const startedMs = performance.now();
  let explain = async (): Promise<string> => '';
  let onStart = (): void => undefined;
  const steps = new Steps({ signal: interrupted.signal, explain: () => explain(), onStart: () => onStart() });
  let daemon: TestDaemon | undefined;
  {
    await using lab = new AsyncDisposableStack();
    await steps.section('start', async () => {
      const started = await steps.need('docker-registry and bin/caisson serve', () => startDaemon(lab));
      daemon = started;
      const { plane, directory } = await steps.need('etcd and kube-apiserver', () =>
        startCluster(lab, started, interrupted.signal),
      );
      lab.defer(() => keepLogs(started, directory));
      const kubelet = await steps.need('kubelet', () => startNode(lab, directory, plane, started));
      const { kubectl } = plane;
      onStart = () => kubectl.forget();
      explain = async () => {
        const log = (await started.log()).split('\n').filter(isTelling).slice(-LOG_TAIL_LINES).join('\n');
        return `${kubectl.describe()}\nlast lines of the daemon's log:\n${log}`;
      };
      const world = { steps, daemon: started, plane, kubelet, kubectl };
      await steps.section('the node', () => node(world));
      const nothing = await podsResources(started, kubelet);
      await story(world);
      await steps.section('after all pods are deleted', () =>
        steps.check('no process, netns, veth, address, mount, disk or cgroup of theirs is left', async () => {
          await kubectl.ok('delete', 'pods', '--all', '--timeout=300s');
          await eventually(async () => deepStrictEqual(await podsResources(started, kubelet), nothing), SLOW_MS, 1000);
        }),
      );
    });
  }
  explain = async () => '';
  if (daemon) await nothingIsLeft(steps, daemon);
  if (interrupted.signal.aborted) process.stdout.write('interrupted\n');
  process.stdout.write(
    `took ${Math.round((performance.now() - startedMs) / 1000)} s; logs: ${OUTPUT}\n${steps.summary()}\n`,
  );
  return steps.failed > 0 || interrupted.signal.aborted ? 1 : 0;
}

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
}

/** Reads that went well tell nothing about a failure. */
function isTelling(line: string): boolean {
  return line !== '' && !/"(List\w+|\w+Status|Version|ImageFsInfo|RuntimeConfig) done"/.test(line);
}

/** Also after an interruption: it is printed and counted when it fails, whatever happened before. */
async function nothingIsLeft(before: Steps, daemon: TestDaemon): Promise<void> {
  const steps = interrupted.signal.aborted
    ? new Steps({ signal: new AbortController().signal, explain: () => '' })
    : before;
  await steps.section('after the daemon', () =>
    steps.check('no process, netns, bridge or file of this run is left', async () => {
      deepStrictEqual(await processesOf(daemon), []);
      deepStrictEqual(await netnsOf(daemon), []);
      strictEqual(await exists(`/sys/class/net/${daemon.cni.bridge}`), false, `bridge ${daemon.cni.bridge}`);
      strictEqual(await exists(daemon.dir), false, daemon.dir);
    }),
  );
}
