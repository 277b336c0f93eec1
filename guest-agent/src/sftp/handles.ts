import fs from 'node:fs';
import { uint32 } from './packets.ts';

export const MAX_HANDLES = 200;

export type Handle =
  | { readonly kind: 'file'; readonly fd: number }
  | { readonly kind: 'directory'; readonly directory: fs.Dir; readonly path: Buffer };

/** What a client has open. */
export class Handles {
  readonly #open = new Map<string, Handle>();
  #count = 0;

  /** Returns what the client calls it; closes it again and throws when there are too many. */
  add(handle: Handle): Buffer {
    if (this.#open.size >= MAX_HANDLES) {
      close(handle);
      throw Object.assign(new Error('too many files are open'), { code: 'EMFILE' });
    }
    const name = uint32(this.#count++);
    this.#open.set(name.toString('hex'), handle);
    return name;
  }

  file(name: Buffer): number {
    const handle = this.#open.get(name.toString('hex'));
    if (handle?.kind !== 'file') throw unknownHandle();
    return handle.fd;
  }

  directory(name: Buffer): Extract<Handle, { kind: 'directory' }> {
    const handle = this.#open.get(name.toString('hex'));
    if (handle?.kind !== 'directory') throw unknownHandle();
    return handle;
  }

  close(name: Buffer): void {
    const key = name.toString('hex');
    const handle = this.#open.get(key);
    if (!handle) throw unknownHandle();
    this.#open.delete(key);
    close(handle);
  }

  closeAll(): void {
    for (const handle of this.#open.values()) close(handle);
    this.#open.clear();
  }
}

function close(handle: Handle): void {
  if (handle.kind === 'file') fs.closeSync(handle.fd);
  else handle.directory.closeSync();
}

const unknownHandle = (): Error => Object.assign(new Error('no such handle'), { code: 'EBADF' });
