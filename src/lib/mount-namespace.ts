import { Worker } from 'node:worker_threads';
import { CaissonError } from './errors.ts';
import type { TreeChange } from './mount-tree.ts';

/** What can be done in another mount namespace; every path is one of that namespace. */
export type MountStep =
  /** `tree`: descriptor of a MountTree */
  | { readonly do: 'attach'; readonly tree: number; readonly target: string }
  | { readonly do: 'attach to itself'; readonly target: string }
  | { readonly do: 'change'; readonly target: string; readonly change: TreeChange }
  | { readonly do: 'make block node'; readonly node: BlockNode }
  | { readonly do: 'detach'; readonly target: string };

/** To be read and written by one user; one that is there already stays. */
export interface BlockNode {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  readonly uid: number;
}

export interface MountJob {
  readonly id: number;
  /** descriptor of a /proc/PID/ns/mnt */
  readonly namespace: number;
  readonly steps: readonly MountStep[];
}

export interface MountJobResult {
  readonly id: number;
  readonly error: string | undefined;
}

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

let worker: Worker | undefined;
let nextId = 1;
const pending = new Map<number, Pending>();

/**
 * Takes the steps in another mount namespace, up to the first that fails: that is thrown as `internal`, and what was
 * done before it stays. Entering a namespace is a matter of one thread, so a worker does it.
 */
export async function inMountNamespace(namespace: number, steps: readonly MountStep[]): Promise<void> {
  worker ??= startWorker();
  const job: MountJob = { id: nextId++, namespace, steps };
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  pending.set(job.id, { resolve, reject });
  worker.ref();
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage(job);
  await promise;
}

function startWorker(): Worker {
  const started = new Worker(new URL('mount-namespace-worker.ts', import.meta.url), {
    name: 'mount-namespace',
    // it closes descriptors that it got from system calls, not from Node
    trackUnmanagedFds: false,
  });
  started.on('message', ({ id, error }: MountJobResult) => {
    const job = pending.get(id);
    pending.delete(id);
    if (pending.size === 0) started.unref();
    if (error === undefined) job?.resolve();
    else job?.reject(new CaissonError('internal', error));
  });
  started.on('error', (error) => {
    if (worker === started) worker = undefined;
    const lost = [...pending.values()];
    pending.clear();
    for (const job of lost)
      job.reject(new CaissonError('internal', 'the thread that mounts has ended', { cause: error }));
  });
  return started;
}
