import { open, type FileHandle } from 'node:fs/promises';

/** A saved VM: `ram` (sparse), `state` (QEMU's devices), `scratch` (a disk), and `seal`, written last, with the digest of all. */
export const templateFiles = (directory: string) => ({
  ram: `${directory}/ram`,
  state: `${directory}/state`,
  scratch: `${directory}/scratch.qcow2`,
  seal: `${directory}/seal.json`,
});

export interface OpenTemplate extends AsyncDisposable {
  readonly ram: FileHandle;
  readonly state: FileHandle;
  readonly scratch: FileHandle;
}

/** All of the same template, whatever another daemon puts in its place meanwhile. */
export async function openTemplate(directory: string): Promise<OpenTemplate> {
  await using undo = new AsyncDisposableStack();
  await using place = await open(directory, 'r');
  const files = templateFiles(`/proc/self/fd/${place.fd}`);
  const ram = undo.use(await open(files.ram, 'r'));
  const state = undo.use(await open(files.state, 'r'));
  const scratch = undo.use(await open(files.scratch, 'r'));
  const release = undo.move();
  return { ram, state, scratch, [Symbol.asyncDispose]: () => release.disposeAsync() };
}
