import { readFile } from 'node:fs/promises';
import { CaissonError } from '../../src/lib/errors.ts';
import { startChild } from './reaper.ts';
import type { OciNamespace } from './spec.ts';

/** What the daemon writes into a spec for a namespace that it does not know the path of. */
const OF_POD = 'caisson:pid-of-pod';
const OF_CONTAINER = 'caisson:pid-of:';

/** The first process of the namespace that a pod's containers share: it reaps what they leave behind. */
let holder: Promise<number> | undefined;

/**
 * Puts the paths of pid namespaces in. `pidOf` is the first process of a container that runs; it throws
 * `failed_precondition` for one that does not.
 */
export async function withPidNamespace(
  namespaces: readonly OciNamespace[],
  pidOf: (containerId: string) => number,
): Promise<OciNamespace[]> {
  return Promise.all(
    namespaces.map(async (namespace) => {
      const { path } = namespace;
      if (path === OF_POD) return { ...namespace, path: `/proc/${await podHolder()}/ns/pid` };
      if (!path?.startsWith(OF_CONTAINER)) return namespace;
      return { ...namespace, path: `/proc/${pidOf(path.slice(OF_CONTAINER.length))}/ns/pid` };
    }),
  );
}

async function podHolder(): Promise<number> {
  const starting = holder ?? startHolder();
  holder = starting;
  return starting.catch((error: unknown) => {
    holder = undefined;
    throw error;
  });
}

/** A shell that waits is also one that reaps; signals of the containers do not end it, it is process 1 there. */
function startHolder(): Promise<number> {
  const script = 'echo $$; while :; do /usr/bin/busybox sleep 86400; done';
  // -f: unshare forks, and the child is the first process of the new namespace
  const child = startChild('/usr/bin/busybox', ['unshare', '-p', '-f', '/usr/bin/busybox', 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => {
      holder = undefined;
      reject(new CaissonError('internal', 'the process namespace of the pod could not be made'));
    });
    child.stdout?.once('data', () => {
      firstChildOf(child.pid).then(resolve, reject);
    });
  });
}

async function firstChildOf(pid: number | undefined): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const [first] = children.trim().split(' ').map(Number);
  if (!first) throw new CaissonError('internal', 'the process namespace of the pod ended at once');
  return first;
}
