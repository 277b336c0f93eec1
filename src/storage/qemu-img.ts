import { run } from '../lib/exec.ts';

const TIMEOUT_MS = 30_000;

/**
 * Makes an empty qcow2 at `path` that shows `rawBase` until it is written. Never give any qemu-img command a disk that
 * a guest has had: its header could name a host file as backing file. Throws what `run` throws.
 */
export async function createOverlay(path: string, rawBase: string, signal?: AbortSignal): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', rawBase, '-F', 'raw', path], {
    signal,
    timeoutMs: TIMEOUT_MS,
    installHint: 'apt install qemu-utils',
  });
}
