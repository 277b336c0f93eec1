import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { CaissonError } from './errors.ts';

const MFD_CLOEXEC = 1;

/** Memory with a descriptor; it is freed when the last process that has it open or mapped is gone. */
export interface Memfd extends Disposable {
  readonly fd: number;
}

export function createMemfd(name: string): Memfd {
  const memfdCreate = koffi.load('libc.so.6').func('int memfd_create(const char *name, unsigned int flags)');
  const fd = Number(memfdCreate(name, MFD_CLOEXEC));
  if (fd < 0) throw new CaissonError('resource_exhausted', `the kernel gives no memory file: errno ${koffi.errno()}`);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}
