import { watch } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { withTimeout } from '../../src/lib/async.ts';
import { CaissonError, describeError, isErrno } from '../../src/lib/errors.ts';

const CLASS = '/sys/class/block';
const HOTPLUG_TIMEOUT_MS = 20_000;

/** `/dev/<name>` of the disk with this serial; waits `timeoutMs` for it to be plugged in. */
export async function findDisk(serial: string, timeoutMs = HOTPLUG_TIMEOUT_MS): Promise<string> {
  using events = new DevWatcher();
  const search = async (): Promise<string> => {
    for (;;) {
      const changed = events.next();
      const found = await scan(serial);
      if (found !== undefined) return found;
      await changed;
    }
  };
  try {
    return await withTimeout(search(), timeoutMs, `the plugging in of the disk with serial ${serial}`);
  } catch (error) {
    throw new CaissonError('deadline_exceeded', `${describeError(error)}; disks of the VM: ${await present()}`);
  }
}

async function present(): Promise<string> {
  const names = await readdir(CLASS);
  return (await Promise.all(names.map(async (name) => `${name} (${await readSerial(name)})`))).join(', ');
}

async function scan(serial: string): Promise<string | undefined> {
  // not /sys/block: its link comes a moment after the node in /dev, whose event we have then had in vain
  for (const name of await readdir(CLASS)) {
    if ((await readSerial(name)) === serial) return `/dev/${name}`;
  }
  return undefined;
}

/** The unit serial number, SCSI's vital product data page 0x80, behind its 4 bytes of header. */
async function readSerial(name: string): Promise<string | undefined> {
  try {
    return (await readFile(`${CLASS}/${name}/device/vpd_pg80`)).subarray(4).toString('latin1').trim();
  } catch (error) {
    // other kinds of disk have no such page, and a disk just found may have no answer yet
    if (isErrno(error, 'ENOENT') || isErrno(error, 'EINVAL') || isErrno(error, 'EIO')) return undefined;
    throw error;
  }
}

/** devtmpfs makes a node for every new disk, which inotify sees. */
class DevWatcher implements Disposable {
  readonly #watcher = watch('/dev', { persistent: false });

  next(): Promise<void> {
    return new Promise((resolve) => this.#watcher.once('change', () => resolve()));
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
  }
}
