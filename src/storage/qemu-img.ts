import { run } from '../lib/exec.ts';

const TIMEOUT_MS = 30_000;

/**
 * Makes an empty qcow2 at `path` that shows `rawBase` until it is written. Never give any qemu-img command a disk that
 * a guest has had: its header could name a host file as backing file. Throws what `run` throws.
 */
export async function createOverlay(path: string, rawBase: string): Promise<void> {
  await qemuImg(['create', '-q', '-f', 'qcow2', '-b', rawBase, '-F', 'raw', path]);
}

/** Makes a qcow2 at `path` with all that `rawBase` holds. */
export async function createCopy(path: string, rawBase: string, signal: AbortSignal): Promise<void> {
  await qemuImg(['convert', '-q', '-f', 'raw', '-O', 'qcow2', rawBase, path], signal);
}

const qemuImg = (args: readonly string[], signal?: AbortSignal): Promise<unknown> =>
  run('qemu-img', args, { signal, timeoutMs: TIMEOUT_MS, installHint: 'apt install qemu-utils' });
