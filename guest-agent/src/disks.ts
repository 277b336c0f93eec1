import { readdirSync, readFileSync, watch } from 'node:fs';
import { withTimeout } from '../../src/lib/async.ts';
import { CaissonError, describeError, isErrno } from '../../src/lib/errors.ts';

const CLASS = '/sys/class/block';
const HOTPLUG_TIMEOUT_MS = 20_000;

/** `/dev/<name>` of the disk with this serial; waits `timeoutMs` for it to be plugged in. */
export async function findDisk(serial: string, timeoutMs = HOTPLUG_TIMEOUT_MS): Promise<string> {
  const found = scan(serial);
  if (found !== undefined) return found;
  using events = new DevWatcher();
  const search = async (): Promise<string> => {
    for (;;) {
      const changed = events.next();
      const plugged = scan(serial);
      if (plugged !== undefined) return plugged;
      await changed;
    }
  };
  try {
    return await withTimeout(search(), timeoutMs, `the plugging in of the disk with serial ${serial}`);
  } catch (error) {
    throw new CaissonError('deadline_exceeded', `${describeError(error)}; disks of the VM: ${present()}`);
  }
}

const present = (): string =>
  readdirSync(CLASS)
    .map((name) => `${name} (${serialOf(name)})`)
    .join(', ');

function scan(serial: string): string | undefined {
  // not /sys/block: its link comes a moment after the node in /dev, whose event we have then had in vain
  const name = readdirSync(CLASS).find((each) => serialOf(each) === serial);
  return name && `/dev/${name}`;
}

/** Disks never go. */
const serials = new Map<string, string>();

function serialOf(name: string): string | undefined {
  const known = serials.get(name);
  if (known !== undefined) return known;
  const serial = readSerial(name);
  if (serial !== undefined) serials.set(name, serial);
  return serial;
}

/**
 * The unit serial number, SCSI's vital product data page 0x80, behind its 4 bytes of header. The kernel has asked the disk
 * for it before, so that nobody waits here.
 */
function readSerial(name: string): string | undefined {
  // other kinds of disk have no such page
  if (!name.startsWith('sd')) return undefined;
  try {
    return readFileSync(`${CLASS}/${name}/device/vpd_pg80`).subarray(4).toString('latin1').trim();
  } catch (error) {
    // a disk just found may have no answer yet
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
