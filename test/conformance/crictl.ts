/**
 * Drives a real daemon with the Kubernetes project's own crictl, through the whole life of a pod:
 * `bin/node test/conformance/crictl.ts`, after `bin/setup crictl`. Ends with `N passed, N failed`.
 */
import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { run } from '../../src/lib/exec.ts';
import { exists } from '../../src/lib/files.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { freePort } from '../support/registry.ts';
import { countResources, netnsOf, processesOf, settledResources } from '../support/resources.ts';
import { Steps } from '../support/steps.ts';
import { beyond } from './crictl/beyond.ts';
import { createContainers, execAndLogs, stopContainers } from './crictl/containers.ts';
import { aboutTheDaemon, pullImages, removeImages } from './crictl/images.ts';
import { network } from './crictl/network.ts';
import { runPod, stopPod } from './crictl/pod.ts';
import { Crictl, CRICTL } from './crictl/run.ts';
import { fillRegistry, startLab, type World } from './crictl/world.ts';

const LOG_TAIL_LINES = 25;

const interrupted = new AbortController();
// for good: what starts programs (execa) ends this process at a signal that nobody listens to
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());
// whoever reads our output may leave: what was started must not stay behind
process.stdout.on('error', () => interrupted.abort());
process.exitCode = await main();

async function main(): Promise<number> {
  if (!(await exists(CRICTL))) {
    process.stderr.write(`${CRICTL} is missing; run bin/setup crictl, or npm run test:crictl\n`);
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
      const started = await steps.need('docker-registry and bin/caisson serve', () => startLab(lab));
      daemon = started.daemon;
      const crictl = await Crictl.configure(daemon.dir, daemon.config.socket, interrupted.signal);
      onStart = () => crictl.forget();
      explain = async () => {
        const log = (await started.daemon.log()).split('\n').filter(isTelling).slice(-LOG_TAIL_LINES).join('\n');
        return `${crictl.describe()}\nlast lines of the daemon's log:\n${log}`;
      };
      const images = await steps.need('two images in the registry', () =>
        fillRegistry(started.daemon, started.registry),
      );
      await story({ ...started, ...images, steps, crictl });
    });
  }
  explain = async () => '';
  if (daemon) await nothingIsLeft(steps, daemon);
  if (interrupted.signal.aborted) process.stdout.write('interrupted\n');
  process.stdout.write(`took ${Math.round((performance.now() - startedMs) / 1000)} s\n${steps.summary()}\n`);
  return steps.failed > 0 || interrupted.signal.aborted ? 1 : 0;
}

async function story(world: World): Promise<void> {
  const { steps, daemon } = world;
  const nothing = await countResources(daemon);
  await steps.section('the daemon', () => aboutTheDaemon(world));
  await steps.section('images', () => pullImages(world));
  await steps.section('a pod', async () => {
    const pod = await runPod(world, await freePort());
    let left: readonly string[] = [];
    await steps.section('containers', async () => {
      const containers = await createContainers(world, pod);
      left = [containers.web];
      await steps.section('exec and logs', () => execAndLogs(world, pod, containers));
      await steps.section('network', () => network(world, pod, containers));
      await steps.section('stop and remove', () => stopContainers(world, containers));
    });
    await steps.section('end of the pod', () => stopPod(world, pod, left));
  });
  await steps.section('beyond', () => beyond(world));
  await steps.section('end of the images', () => removeImages(world));
  await steps.section('after all pods are removed', () =>
    steps.check('no process, netns, veth, address, mount or disk of theirs is left', async () => {
      deepStrictEqual(await settledResources(daemon, nothing), nothing);
    }),
  );
}

/** Reads that went well tell nothing about a failure. */
function isTelling(line: string): boolean {
  return line !== '' && !/"(List\w+|\w+Status|Version|ImageFsInfo) done"/.test(line);
}

/** Also after an interruption: it is printed and counted when it fails, whatever happened before. */
async function nothingIsLeft(before: Steps, daemon: TestDaemon): Promise<void> {
  // the steps of an interrupted run are over
  const steps = interrupted.signal.aborted
    ? new Steps({ signal: new AbortController().signal, explain: () => '' })
    : before;
  await steps.section('after the daemon', () =>
    steps.check('no process, netns, bridge, port mapping or file of this run is left', async () => {
      deepStrictEqual(await processesOf(daemon), []);
      deepStrictEqual(await netnsOf(daemon), []);
      strictEqual(await exists(`/sys/class/net/${daemon.cni.bridge}`), false, `bridge ${daemon.cni.bridge}`);
      strictEqual(await exists(daemon.dir), false, daemon.dir);
      const rules = await run('iptables', ['-t', 'nat', '-S'], { okCodes: [0, 1, 3, 4] });
      strictEqual(rules.stdout.includes(daemon.cni.reservations.split('/').at(-1) ?? ''), false, rules.stdout);
    }),
  );
}
