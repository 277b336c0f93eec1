import { z } from 'zod';
import { orAborted } from '../lib/async.ts';
import { CaissonError, describeError } from '../lib/errors.ts';
import { FS_TAG, type Vm } from './contracts.ts';
import { FS_PORT } from './qemu/command-line.ts';
import type { QmpClient } from './qemu/qmp.ts';

const CHARDEV = 'fs';
const QUEUE_SIZE = 1024;

const chardevs = z.array(z.object({ label: z.string() }));

/** Plugs the device in once, also when an earlier daemon has done it. */
export async function fsAttacher(qmp: QmpClient): Promise<Vm['attachFs']> {
  const present = chardevs.parse(await qmp.execute('query-chardev')).some(({ label }) => label === CHARDEV);
  let done = present ? Promise.resolve() : undefined;
  return async (socketPath, signal) => {
    if (!done) {
      done = plug(qmp, socketPath);
      done.catch(() => (done = undefined));
    }
    await orAborted(done, signal);
  };
}

async function plug(qmp: QmpClient, path: string): Promise<void> {
  const backend = { type: 'socket', data: { addr: { type: 'unix', data: { path } }, server: false } };
  await qmp.execute('chardev-add', { id: CHARDEV, backend });
  try {
    await qmp.execute('device_add', {
      driver: 'vhost-user-fs-pci',
      id: 'fs0',
      chardev: CHARDEV,
      tag: FS_TAG,
      bus: FS_PORT,
      'queue-size': QUEUE_SIZE,
    });
  } catch (error) {
    await qmp.execute('chardev-remove', { id: CHARDEV });
    throw new CaissonError('internal', `QEMU takes no file system for volumes: ${describeError(error)}`, {
      cause: error,
    });
  }
}
