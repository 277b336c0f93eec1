import { isErrno } from '../../src/lib/errors.ts';

/** A process that is gone is no error. */
export function kill(pid: number, signal: number): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}
