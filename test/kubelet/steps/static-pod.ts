import { strictEqual } from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { container, inPod, NODE, WAIT, waitReady, type World } from '../world.ts';

/** A static pod's file in the directory that the kubelet watches. */
export async function staticPod({ steps, kubectl, kubelet }: World): Promise<void> {
  const name = `fixed-${NODE}`;
  const file = join(kubelet.staticPodDir, 'fixed.json');
  await steps.need('a static pod runs, and the API server shows it', async () => {
    const metadata = { name: 'fixed', namespace: 'default' };
    const spec = { containers: [container('fixed', WAIT)], terminationGracePeriodSeconds: 5 };
    await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec }));
    await kubectl.ok('wait', '--for=create', `pod/${name}`, '--timeout=300s');
    await waitReady(kubectl, name);
    strictEqual(await inPod(kubectl, name, 'hostname'), name);
  });
  await steps.check('it goes when its file goes', async () => {
    await rm(file);
    await kubectl.ok('wait', '--for=delete', `pod/${name}`, '--timeout=300s');
  });
}
