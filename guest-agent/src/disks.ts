import { closeSync, openSync, readdirSync, readFileSync, watch, type FSWatcher } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';

const CLASS = '/sys/class/block';
const HOTPLUG_TIMEOUT_MS = 20_000;

/** Of /dev: devtmpfs makes a node for every new disk, which inotify sees. */
let watcher: FSWatcher | undefined;

/** `/dev/<name>` of the disk with this serial; waits `timeoutMs` for it to be plugged in. */
export async function findDisk(serial: string, timeoutMs = HOTPLUG_TIMEOUT_MS): Promise<string> {
  // before the first look, or a disk that comes after it may go unseen
  watcher ??= watch('/dev', { persistent: false }).setMaxListeners(0);
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = scan(serial);
    if (found !== undefined && opens(found)) return found;
    const left = deadline - performance.now();
    if (left <= 0) break;
    await (found === undefined ? changed(watcher, left) : sleep(LOOK_AGAIN_MS));
  }
  const what = `the disk with serial ${serial} was not there within ${timeoutMs} ms`;
  throw new CaissonError('deadline_exceeded', `${what}; disks of the VM: ${present()}`);
}

const LOOK_AGAIN_MS = 1;

/**
 * False for a moment after a new disk has come into sysfs: first it is not in /dev, then it may not be opened. What tells
 * the end of it is a uevent, which comes by a kind of socket that Node cannot wait for.
 */
function opens(path: string): boolean {
  try {
    closeSync(openSync(path, 'r'));
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENXIO')) return false;
    throw error;
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

/** Resolves after `timeoutMs` without a change, too. */
function changed(place: FSWatcher, timeoutMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => {
    clearTimeout(timer);
    place.off('change', done);
    resolve();
  };
  const timer = setTimeout(done, timeoutMs);
  place.once('change', done);
  return promise;
}
