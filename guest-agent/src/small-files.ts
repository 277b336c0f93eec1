/**
 * Files of a few hundred bytes on the VM's own tmpfs. No disk and no container can hold these calls up, and each costs
 * a fraction of a turn through Node's thread pool.
 */
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
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
