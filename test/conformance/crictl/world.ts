import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { busyboxImage } from '../../../images/busybox.ts';
import { writeLayout, type ImageSpec, type WrittenImage } from '../../../images/layout.ts';
import { startTestDaemon, type TestDaemon } from '../../support/daemon.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';
import type { Steps } from '../../support/steps.ts';
import type { Crictl } from './run.ts';

/** Everything the steps work with. */
export interface World {
  readonly steps: Steps;
  readonly crictl: Crictl;
  readonly daemon: TestDaemon;
  readonly registry: TestRegistry;
  /** what the registry has: busybox as `latest` and `1.0`, web as `1.0`, both in docker.io/library */
  readonly busybox: WrittenImage;
  readonly web: WrittenImage;
}

/** `docker.io` for crictl; its mirror is the registry on the loopback interface. */
export const BUSYBOX = 'docker.io/library/busybox:1.0';
export const WEB = 'docker.io/library/web:1.0';
export const WEB_PORT = 8080;
export const PAGE = 'a page from inside a VM\n';

export async function startLab(lab: AsyncDisposableStack) {
  const registry = lab.use(await startRegistry());
  const mirror = [{ location: registry.host, insecure: true }];
  // the registry of that name is never asked: the tests send nothing to other machines
  const mirrored = { prefix: 'docker.io', location: registry.host, insecure: true, blocked: false, mirror };
  const daemon = lab.use(
    await startTestDaemon({ images: [], ownSession: true, config: { image: { registry: [mirrored] } } }),
  );
  return { registry, daemon };
}

export async function fillRegistry({ dir }: TestDaemon, registry: TestRegistry) {
  const image = await busyboxImage();
  const busybox = await push(dir, registry, image, ['library/busybox:1.0', 'library/busybox:latest']);
  const web = await push(dir, registry, webImage(image), ['library/web:1.0']);
  return { busybox, web };
}

/** busybox's httpd with one page, in a layer above busybox's own. */
function webImage(busybox: ImageSpec): ImageSpec {
  const page = {
    content: [
      { name: 'www', type: 'directory' as const },
      { name: 'www/index.html', content: PAGE },
    ],
  };
  const config = { ...busybox.config, Cmd: ['httpd', '-f', '-p', String(WEB_PORT), '-h', '/www'] };
  return { ...busybox, layers: [...busybox.layers, page], config };
}

async function push(
  dir: string,
  registry: TestRegistry,
  image: ImageSpec,
  names: readonly string[],
): Promise<WrittenImage> {
  const layout = join(dir, `layout-${names[0]?.replaceAll(/\W/g, '-')}`);
  const [written] = await writeLayout(layout, [image]);
  if (!written) throw new Error('no image was written');
  for (const name of names) await registry.push(layout, name);
  return written;
}

/** Writes a pod's or container's config for crictl, as JSON or ready-made YAML; returns its path. */
export async function configFile(
  world: Pick<World, 'daemon'>,
  name: string,
  content: object | string,
): Promise<string> {
  const path = join(world.daemon.dir, name);
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content, undefined, 2));
  return path;
}

/** A pod's config with the names that the contract has; crictl reads nothing else. */
export function podConfig({ daemon }: Pick<World, 'daemon'>, name: string, more: object = {}): object {
  return {
    metadata: { name, namespace: 'crictl', uid: `uid-of-${name}`, attempt: 1 },
    hostname: name,
    log_directory: join(daemon.dir, 'logs', name),
    linux: {},
    ...more,
  };
}

export function containerConfig(name: string, image: string, command: readonly string[], more: object = {}): object {
  return { metadata: { name, attempt: 0 }, image: { image }, command, log_path: `${name}.log`, linux: {}, ...more };
}
