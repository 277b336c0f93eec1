import { match, strictEqual } from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../src/lib/exec.ts';
import { PAGE, WEB } from '../../conformance/crictl/world.ts';
import { eventually } from '../../support/steps.ts';
import { container, inPod, pod, WAIT, waitReady, withPod, type World, SLOW_MS } from '../world.ts';

/** Volumes of the node and of images. */
export async function volumes({ steps, kubectl, kubelet }: World): Promise<void> {
  // a part of the kubelet's directory, whose mounts are passed on
  const home = join(kubelet.rootDir, 'shared-with-pods');
  await mkdir(join(home, 'below'), { recursive: true });
  await writeFile(join(home, 'note'), 'of the node');
  const spec = {
    containers: [
      container('holder', WAIT, {
        volumeMounts: [
          { name: 'node', mountPath: '/node', mountPropagation: 'HostToContainer' },
          { name: 'node', mountPath: '/node-ro', readOnly: true, recursiveReadOnly: 'Enabled' },
          { name: 'image', mountPath: '/image' },
        ],
      }),
    ],
    volumes: [
      { name: 'node', hostPath: { path: home, type: 'Directory' } },
      { name: 'image', image: { reference: WEB } },
    ],
  };
  await withPod(kubectl, pod('holder', spec), async () => {
    await steps.need('a pod with a directory of the node and an image as volumes', () => waitReady(kubectl, 'holder'));
    await steps.check('what either side writes is there for the other', async () => {
      strictEqual(await inPod(kubectl, 'holder', 'cat', '/node/note'), 'of the node');
      await inPod(kubectl, 'holder', 'sh', '-c', 'echo of the pod >/node/answer');
      strictEqual(await readFile(join(home, 'answer'), 'utf8'), 'of the pod\n');
      const refused = await kubectl.run(['exec', 'holder', '--', 'touch', '/node-ro/new']);
      match(refused.stderr, /Read-only file system/);
    });
    await steps.check('the image’s files are there', async () => {
      strictEqual(await inPod(kubectl, 'holder', 'cat', '/image/www/index.html'), PAGE.trim());
    });
    await steps.check('HostToContainer: what the node mounts later appears', async () => {
      await run('mount', ['-t', 'tmpfs', 'later', join(home, 'below')]);
      try {
        await writeFile(join(home, 'below', 'mounted'), 'later');
        const look = () => inPod(kubectl, 'holder', 'cat', '/node/below/mounted');
        strictEqual(await eventually(look, SLOW_MS, 1000), 'later');
      } finally {
        await run('umount', ['--lazy', join(home, 'below')]);
      }
    });
  });
}
