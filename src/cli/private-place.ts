import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busyboxImage } from '../../images/busybox.ts';
import { writeLayout } from '../../images/layout.ts';
import type { Config } from '../config/schema.ts';
import { removeTree } from '../lib/files.ts';
import { loadOffline } from './image-load.ts';

/** A temporary directory in which a daemon shares nothing with any other of this host; disposal removes it. */
export interface PrivatePlace extends AsyncDisposable {
  readonly directory: string;
  readonly config: Config;
}

/** `base` with root, state and socket in a directory of its own. */
export async function makePrivatePlace(base: Config, name: string): Promise<PrivatePlace> {
  const directory = await mkdtemp(join(tmpdir(), `caisson-${name}-`));
  await chmod(directory, 0o711); // VMs' users pass through
  const config = {
    ...base,
    root: join(directory, 'root'),
    state: join(directory, 'state'),
    socket: join(directory, 'caisson.sock'),
  };
  return { directory, config, [Symbol.asyncDispose]: () => removeTree(directory) };
}

/** Makes a small image of this host's busybox and loads it, while no daemon runs there. */
export async function loadBusybox({ directory, config }: PrivatePlace, image: string): Promise<void> {
  const layout = join(directory, 'layout');
  await writeLayout(layout, [await busyboxImage(image)]);
  await loadOffline(config, layout);
}
