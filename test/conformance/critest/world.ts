import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { critestImages, type TestImagePlaces } from '../../../images/critest/images.ts';
import { writeLayout } from '../../../images/layout.ts';
import { removeTree } from '../../../src/lib/files.ts';
import { startTestDaemon, type TestDaemon } from '../../support/daemon.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';

/** The registries that critest's images are named after; all of them are our one. */
const registries = ['registry.k8s.io', 'gcr.io', 'k8s.gcr.io', 'public.ecr.aws'];

/** A registry with critest's images, and a daemon that asks it instead of those whose names they have. */
export async function startWorld(stack: AsyncDisposableStack, places: TestImagePlaces): Promise<TestDaemon> {
  const registry = stack.use(await startRegistry());
  const entries = registries.map((prefix) => ({
    prefix,
    // the registry of that name is never asked: the tests send nothing to other machines
    location: registry.host,
    insecure: true,
    blocked: false,
    mirror: [],
  }));
  const daemon = stack.use(
    await startTestDaemon({ images: [], ownSession: true, config: { image: { registry: entries } } }),
  );
  await fillRegistry(registry, join(daemon.dir, 'layout'), places);
  await mkdir(join(daemon.dir, 'tmp'), { mode: 0o755 });
  return daemon;
}

async function fillRegistry(registry: TestRegistry, layout: string, places: TestImagePlaces): Promise<void> {
  for (const { names, spec } of await critestImages(places)) {
    await writeLayout(layout, [spec]);
    for (const name of names) await registry.push(layout, name.slice(name.indexOf('/') + 1));
    await removeTree(layout);
  }
}
