import { mkdtemp, readdir } from 'node:fs/promises';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { configSchema, type Config } from '../../src/config/schema.ts';
import { openImages, type ImageRecord } from '../../src/image/index.ts';
import type { Image, ImagePort } from '../../src/image/contracts.ts';
import { exists, removeTree } from '../../src/lib/files.ts';
import type { Logger } from '../../src/lib/logger.ts';
import { openStore } from '../../src/state/index.ts';
import { writeLayout, type ImageSpec, type TarEntry, type WrittenImage } from '../../images/layout.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

/** Like the entries of `[[image.registry]]` in the configuration file. */
export type RegistryConfig = { prefix: string; [key: string]: unknown };

export interface ImageLab extends AsyncDisposable {
  readonly directory: string;
  /** the directory of the image store */
  readonly root: string;
  readonly registry: TestRegistry;
  readonly warnings: string[];
  /** Opens the image store; the state outlives it. The registry counts as insecure if nothing else is said. */
  open(registries?: readonly RegistryConfig[], settings?: Partial<Config['image']>): Promise<ImagePort>;
  /** Builds an image and pushes it under this name; returns what it is made of. */
  push(name: string, image: ImageSpec): Promise<WrittenImage>;
}

export const LIVE = new AbortController().signal;

/** A registry, a store and an empty directory, all gone afterwards. */
export async function imageLab(options: { readonly auth?: boolean } = {}): Promise<ImageLab> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-images-'));
  const registry = await startRegistry(options);
  const store = openStore(join(directory, 'state.db'));
  const root = join(directory, 'images');
  const warnings: string[] = [];
  let layouts = 0;
  return {
    directory,
    root,
    registry,
    warnings,
    open(registries = [{ prefix: registry.host, insecure: true }], settings = {}) {
      const { image: config } = configSchema.parse({ image: { ...settings, registry: registries } });
      const collection = store.collection<ImageRecord>('image');
      return openImages({ root, config, store: collection, log: collectWarnings(warnings), converterUid: 6_100_000 });
    },
    async push(name, image) {
      const layout = join(directory, `layout-${layouts++}`);
      const [written] = await writeLayout(layout, [image]);
      await registry.push(layout, name);
      if (!written) throw new Error('no image was written');
      return written;
    },
    async [Symbol.asyncDispose]() {
      store[Symbol.dispose]();
      await registry[Symbol.asyncDispose]();
      await removeTree(directory);
    },
  };
}

function collectWarnings(warnings: string[]): Logger {
  const log: Logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: (_fields, message) => void warnings.push(message),
    error: (_fields, message) => void warnings.push(message),
    child: () => log,
  };
  return log;
}

/** An image of one layer with one file. */
export function tinyImage(content: string, more: Partial<ImageSpec> = {}): ImageSpec {
  const entries: TarEntry[] = [
    { name: './', type: 'directory' },
    { name: 'file', content },
  ];
  return { layers: [{ content: entries }], config: { Cmd: ['/file'] }, ...more };
}

/** Names of all files of the store that belong to images, and of what is left in its temporary directory. */
export async function filesOf(lab: ImageLab): Promise<{ blobs: string[]; layers: string[]; temporary: string[] }> {
  const list = async (path: string) => (await readdir(join(lab.root, path))).toSorted();
  return { blobs: await list('blobs/sha256'), layers: await list('layers'), temporary: await list('tmp') };
}

export async function areLayersThere(image: Image): Promise<boolean> {
  const found = await Promise.all(image.layers.map(({ path }) => exists(path)));
  return found.every(Boolean);
}

export interface Proxy extends AsyncDisposable {
  readonly host: string;
  /** `METHOD path` of every request so far */
  readonly requests: string[];
}

/** Stands before a registry; `gate` may hold a request up or answer it (then it returns true). */
export async function startProxy(
  registry: TestRegistry,
  gate: (incoming: IncomingMessage, answer: ServerResponse) => Promise<boolean> | boolean = () => false,
): Promise<Proxy> {
  const requests: string[] = [];
  const server = createServer((incoming, answer) => {
    requests.push(`${incoming.method} ${incoming.url}`);
    const forward = (isAnswered: boolean): void => {
      if (isAnswered) return;
      const { url = '/', method = 'GET', headers } = incoming;
      const onward = request(`http://${registry.host}${url}`, { method, headers }, (response) => {
        answer.writeHead(response.statusCode ?? 502, response.headers);
        response.pipe(answer);
      });
      onward.on('error', () => answer.destroy());
      incoming.pipe(onward);
    };
    void Promise.resolve(gate(incoming, answer)).then(forward);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    host: `127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
