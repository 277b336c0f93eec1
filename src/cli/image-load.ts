import type { Config } from '../config/schema.ts';
import type { Image } from '../image/contracts.ts';
import { openImages } from '../image/index.ts';
import type { ImageRecord } from '../image/index.ts';
import { CaissonError, isCaissonError } from '../lib/errors.ts';
import type { Store } from '../state/contracts.ts';
import { openStore } from '../state/index.ts';
import { createLogger } from '../telemetry/index.ts';
import { converterUid, makeBases, placesOf } from './places.ts';

/** Loads into the image store itself: CRI has no call for it. */
export async function loadOffline(config: Config, path: string): Promise<readonly Image[]> {
  const places = placesOf(config);
  await makeBases(config);
  using store = openForLoad(places.database);
  await using images = await openImages({
    root: places.images,
    config: config.image,
    store: store.collection<ImageRecord>('image'),
    log: createLogger({ level: 'warn' }),
    converterUid: converterUid(config),
  });
  return await images.load(path, interruption());
}

function openForLoad(database: string): Store {
  try {
    return openStore(database, { busyTimeoutMs: 200 });
  } catch (error) {
    if (!isCaissonError(error, 'failed_precondition') || !error.message.startsWith('another caisson')) throw error;
    throw new CaissonError('failed_precondition', 'images cannot be loaded while the daemon runs', {
      cause: error,
      hint: 'stop it (`systemctl stop caisson`; pods keep running), load, and start it again; or pull from a registry',
    });
  }
}

/** Aborts at Ctrl-C, so that what was half loaded is cleared away. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort(new CaissonError('cancelled', 'interrupted')));
  return controller.signal;
}
