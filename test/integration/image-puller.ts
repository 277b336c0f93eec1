/** Pulls argv[3] into the image store below argv[2], for a test that shows it another /etc/containers; prints its names. */
import { join } from 'node:path';
import { argv } from 'node:process';
import { configSchema } from '../../src/config/schema.ts';
import { openImages, type ImageRecord } from '../../src/image/index.ts';
import { openStore } from '../../src/state/index.ts';
import { createLogger } from '../../src/telemetry/index.ts';
import { LIVE } from './image-setup.ts';

const [directory = '', name = ''] = argv.slice(2);
using store = openStore(join(directory, 'puller.db'));
await using images = await openImages({
  root: join(directory, 'pulled'),
  config: configSchema.parse({}).image,
  store: store.collection<ImageRecord>('image'),
  log: createLogger({ level: 'error' }),
  converterUid: 6_100_000,
});
const image = await images.pull(name, undefined, LIVE);
process.stdout.write(`${image.repoTags.join(' ')}\n`);
