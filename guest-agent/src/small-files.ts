/**
 * Files of a few hundred bytes on the VM's own tmpfs. No disk and no container can hold these calls up, and each costs
 * a fraction of a turn through Node's thread pool.
 */
import { fstatSync, openSync, readFileSync, readSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { isErrno } from '../../src/lib/errors.ts';

export function writeSmall(path: string, text: string, mode = 0o600): void {
  writeFileSync(path, text, { mode });
}

/** Empty when there is none. */
export function readSmall(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

/** None is no error. */
export function removeSmall(...paths: readonly string[]): void {
  for (const path of paths) {
    try {
      unlinkSync(path);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
}

let unnamedCount = 0;

/** A descriptor of a file that goes with it; it is read from its beginning. */
export function unnamedFile(content: Buffer | string = ''): number {
  const path = `/run/caisson-unnamed-${++unnamedCount}`;
  const fd = openSync(path, 'wx+', 0o600);
  unlinkSync(path);
  const data = Buffer.from(content);
  writeSync(fd, data, 0, data.length, 0);
  return fd;
}

/** All of a file, wherever its writers are in it. */
export function readWhole(fd: number): string {
  const data = Buffer.alloc(fstatSync(fd).size);
  return data.toString('utf8', 0, readSync(fd, data, 0, data.length, 0));
}
