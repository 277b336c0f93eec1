/**
 * Drives a real daemon with the Kubernetes project's own crictl, through the whole life of a pod:
 * `bin/node test/conformance/crictl.ts`, after `bin/setup crictl`. Ends with `N passed, N failed`.
 */
import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { run } from '../../src/lib/exec.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { freePort } from '../support/registry.ts';
import { countResources, settledResources } from '../support/resources.ts';
import { runStory } from '../support/story.ts';
import { beyond } from './crictl/beyond.ts';
import { createContainers, execAndLogs, stopContainers } from './crictl/containers.ts';
import { aboutTheDaemon, pullImages, removeImages } from './crictl/images.ts';
import { network } from './crictl/network.ts';
import { runPod, stopPod } from './crictl/pod.ts';
import { Crictl, CRICTL } from './crictl/run.ts';
import { fillRegistry, startLab, type World } from './crictl/world.ts';

const options = {
  programs: [CRICTL],
  hint: 'run bin/setup crictl, or npm run test:crictl',
  leftovers: noPortMapping,
};
process.exitCode = await runStory(options, async ({ steps, lab, interrupted, watch, listenTo }) => {
  const started = await steps.need('docker-registry and bin/caisson serve', () => startLab(lab));
  const { daemon } = started;
  watch(daemon);
  const crictl = await Crictl.configure(daemon.dir, daemon.config.socket, interrupted);
  listenTo(crictl);
  const images = await steps.need('two images in the registry', () => fillRegistry(daemon, started.registry));
  await story({ ...started, ...images, steps, crictl });
});

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

async function noPortMapping({ cni }: TestDaemon): Promise<void> {
  const rules = await run('iptables', ['-t', 'nat', '-S'], { okCodes: [0, 1, 3, 4] });
  strictEqual(rules.stdout.includes(cni.reservations.split('/').at(-1) ?? ''), false, rules.stdout);
}
