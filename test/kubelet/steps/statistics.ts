import { match, ok } from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { eventually } from '../../support/steps.ts';
import { container, DEPLOY, heartbeat, NODE, pod, waitReady, withPod, type World, SLOW_MS } from '../world.ts';

/** /stats/summary, which kubectl top and the metrics server are made of, and Prometheus' metrics. */
export async function statistics(world: World): Promise<void> {
  const { steps, kubectl, kubelet } = world;
  const spec = {
    containers: [
      container('busy', 'dd if=/dev/zero of=/file bs=1M count=8; while :; do :; done', {
        resources: { limits: { cpu: '500m', memory: '64Mi' } },
      }),
    ],
  };
  await withPod(kubectl, pod('busy', spec), async () => {
    await steps.need('a pod that is busy', () => waitReady(kubectl, 'busy'));
    const raw = (path: string) => kubectl.ok('get', '--raw', `/api/v1/nodes/${NODE}/proxy/${path}`);
    const summaryHasIt = async (withNetwork: boolean): Promise<void> => {
      const summary = JSON.parse(await raw('stats/summary')) as Summary;
      const found = summary.pods.find(({ podRef }) => podRef.name === 'busy');
      const [one] = found?.containers ?? [];
      const text = JSON.stringify(found);
      ok(Number(one?.cpu?.usageNanoCores) > 0, text);
      ok(Number(one?.memory?.workingSetBytes) > 0, text);
      ok(Number(one?.rootfs?.usedBytes) >= 8 << 20, text);
      if (withNetwork) ok(Number(found?.network?.rxBytes) > 0, text);
      ok(Number(summary.node.runtime.imageFs.usedBytes) > 0, JSON.stringify(summary.node.runtime));
    };
    await steps.check('/stats/summary has the pod: processor, memory, disk', () =>
      eventually(() => summaryHasIt(false), SLOW_MS, 2000),
    );
    await steps.check('/metrics/resource has it, too', async () => {
      match(
        await raw('metrics/resource'),
        /^container_cpu_usage_seconds_total\{container="busy",namespace="default",pod="busy"\} [\d.e+]+/m,
      );
    });
    await steps.check('with the feature gates of deploy/kubelet.conf all of it is there, and the network', async () => {
      await kubelet.stop();
      const { featureGates } = parse(await readFile(join(DEPLOY, 'kubelet.conf'), 'utf8')) as { featureGates: object };
      await kubelet.start({ featureGates });
      await heartbeat(world);
      await eventually(() => summaryHasIt(true), SLOW_MS, 2000);
      const metrics = await raw('metrics/cadvisor');
      match(metrics, /^container_cpu_usage_seconds_total\{.*container="busy".*\} [\d.e+]+/m);
      match(metrics, /^container_memory_working_set_bytes\{.*container="busy".*\} [\d.e+]+/m);
    });
  });
}

interface Summary {
  readonly node: { readonly runtime: { readonly imageFs: { readonly usedBytes?: number } } };
  readonly pods: readonly {
    readonly podRef: { readonly name: string };
    readonly network?: { readonly rxBytes?: number };
    readonly containers: readonly {
      readonly cpu?: { readonly usageNanoCores?: number };
      readonly memory?: { readonly workingSetBytes?: number };
      readonly rootfs?: { readonly usedBytes?: number };
    }[];
  }[];
}
