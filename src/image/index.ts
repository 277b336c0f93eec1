import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { Semaphore } from '../lib/async.ts';
import { CaissonError, describeError, isCaissonError } from '../lib/errors.ts';
import { writeFileAtomic } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import type { Collection } from '../state/contracts.ts';
import type { Context } from './context.ts';
import type { Image, ImagePort } from './contracts.ts';
import { Claims, collectGarbage, measure, openDisk, type Disk } from './disk.ts';
import { loadImages } from './load.ts';
import { findRecord } from './names.ts';
import { pullImage } from './pull.ts';
import { damagedLayer, digestsOf, putRecord, toImage, type ImageRecord } from './record.ts';
import { formatReference, parseReference } from './reference.ts';
import { registriesToml } from './registries.ts';
import { SharedTasks } from './shared-tasks.ts';

export type { ImageRecord } from './record.ts';

export interface ImagesOptions {
  /** a directory for this port alone, made if need be */
  readonly root: string;
  readonly config: Config['image'];
  readonly store: Collection<ImageRecord>;
  readonly log: Logger;
  /** the user and group under which layers are converted; they own nothing else */
  readonly converterUid: number;
}

const PARALLEL_CONVERSIONS = 2;

/** Opens the image store: forgets images whose layers are gone, clears away what no image needs. */
export async function openImages(options: ImagesOptions): Promise<ImagePort> {
  const { config, log, converterUid, store } = options;
  const disk = await openDisk(options.root);
  await writeRegistries(disk, config);
  const records = await intactRecords(options, disk);
  const context: Context = {
    disk,
    config,
    records,
    claims: new Claims(),
    conversions: new SharedTasks(),
    converting: new Semaphore(PARALLEL_CONVERSIONS),
    converterUid,
    log,
    put: (record) => putRecord(store, records, record),
  };
  await collect(context);
  return imagePort(context, store);
}

/** A drop-in in skopeo's home is read last: it overrides the system's files, which stay in force otherwise. */
async function writeRegistries(disk: Disk, config: Config['image']): Promise<void> {
  const directory = join(disk.home, '.config', 'containers', 'registries.conf.d');
  await mkdir(directory, { recursive: true });
  await writeFileAtomic(join(directory, 'caisson.conf'), registriesToml(config.registry));
}

async function intactRecords({ store, log }: ImagesOptions, disk: Disk): Promise<Map<string, ImageRecord>> {
  const records = new Map<string, ImageRecord>();
  for (const { id, value } of store.all()) {
    const layer = await damagedLayer(value, disk);
    if (layer === undefined) records.set(id, value);
    else {
      log.warn(
        { imageId: id, layer, repoTags: value.repoTags },
        'forgot an image: a layer of it is missing or damaged',
      );
      store.delete(id);
    }
  }
  return records;
}

async function collect({ disk, records, claims }: Context): Promise<void> {
  // asked about every file at one moment: the set of that moment will do
  let used: Set<string> | undefined;
  const isUsed = (digest: string): boolean => {
    used ??= new Set(records.values().flatMap(digestsOf));
    return used.has(digest) || claims.has(digest);
  };
  await collectGarbage(disk, isUsed);
}

function imagePort(context: Context, store: Collection<ImageRecord>): ImagePort {
  const { disk, records, log } = context;
  const pulls = new SharedTasks<ImageRecord>();
  const loads = new SharedTasks<ImageRecord[]>();
  const pulling = new Semaphore(context.config.max_parallel_pulls);
  const background = new Set<Promise<void>>();

  const image = (record: ImageRecord): Image => toImage(record, disk, context.config.pinned);
  const cleaning = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      await collect(context); // layers and blobs of what did not become an image
      throw asImageError(error, what);
    }
  };
  const collectInBackground = (): void => {
    const failed = (error: unknown): void => log.warn({ err: error }, 'could not clear away unused image layers');
    const task = collect(context).catch(failed);
    background.add(task);
    void task.then(() => background.delete(task));
  };

  return {
    async pull(text, auth, signal) {
      const reference = parseReference(text);
      const name = formatReference(reference);
      const record = await pulls.join(JSON.stringify([name, auth]), signal, (shared) =>
        pulling.run(() => cleaning(`pull ${name}`, () => pullImage(context, reference, auth, shared))),
      );
      return image(record);
    },
    async load(path, signal) {
      const loaded = await loads.join(path, signal, (shared) =>
        cleaning(`load ${path}`, () => loadImages(context, path, shared)),
      );
      return loaded.map(image);
    },
    find(reference) {
      const record = findRecord(records, reference);
      return record && image(record);
    },
    list: () => [...records.values()].map(image),
    async remove(reference) {
      const record = findRecord(records, reference);
      if (!record) return;
      store.delete(record.id);
      records.delete(record.id);
      await collect(context);
    },
    hold(imageId) {
      const record = records.get(imageId);
      if (!record) throw new CaissonError('not_found', `there is no image ${imageId}`);
      const claim = context.claims.add(record.layers.map(({ diffId }) => diffId));
      return {
        [Symbol.dispose]: () => {
          claim[Symbol.dispose]();
          if (!records.has(imageId)) collectInBackground();
        },
      };
    },
    usage: () => measure(disk.root),
    async [Symbol.asyncDispose]() {
      await Promise.all([pulls.stop(), loads.stop(), context.conversions.stop()]);
      await Promise.all(background);
    },
  };
}

function asImageError(error: unknown, what: string): CaissonError {
  if (isCaissonError(error)) return error;
  const message = `cannot ${what}: ${describeError(error)}`;
  if (error instanceof Error && error.name === 'AbortError')
    return new CaissonError('cancelled', message, { cause: error });
  const code = /ENOSPC|no space left/i.test(message) ? 'resource_exhausted' : 'internal';
  return new CaissonError(code, message, { cause: error });
}
