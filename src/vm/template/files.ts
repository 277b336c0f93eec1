import { open, type FileHandle } from 'node:fs/promises';

/** A saved VM: `ram` (sparse), `state` (QEMU's devices), and `seal`, written last, with the digest of both. */
export const templateFiles = (directory: string) => ({
  ram: `${directory}/ram`,
  state: `${directory}/state`,
  seal: `${directory}/seal.json`,
});

export interface OpenTemplate extends AsyncDisposable {
  readonly ram: FileHandle;
  readonly state: FileHandle;
}

/** Both of the same template, whatever another daemon puts in its place meanwhile. */
export async function openTemplate(directory: string): Promise<OpenTemplate> {
  await using undo = new AsyncDisposableStack();
  await using place = await open(directory, 'r');
  const files = templateFiles(`/proc/self/fd/${place.fd}`);
  const ram = undo.use(await open(files.ram, 'r'));
  const state = undo.use(await open(files.state, 'r'));
  const release = undo.move();
  return { ram, state, [Symbol.asyncDispose]: () => release.disposeAsync() };
}
