/**
 * `npm run test:vhost-vsock`: the kernel's vhost-vsock, which this machine may lack, tried on a node that has it: a VM under
 * TCG with a Debian root, this checkout and its guest image. What happens there is in inside.ts.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeTree } from '../../src/lib/files.ts';
import { nodeDisks, nodeImage } from './root.ts';
import { runNode } from './node-vm.ts';

const MEMORY_MIB = 4096;
const TIMEOUT_MS = 60 * 60_000;

const started = performance.now();
const say = (text: string): void => {
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stdout.write(`${String(seconds).padStart(5)} s  ${text}\n`);
};

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
const directory = await mkdtemp(join(tmpdir(), 'caisson-vhost-vsock-'));
try {
  const image = await nodeImage(say);
  say('making the disks with the checkout and the guest image');
  const disks = await nodeDisks(directory, process.env['CAISSON_TEST_GUEST_IMAGE'] ?? '/var/lib/caisson/guest');
  say('booting the node; everything in it is slow');
  const accelerator = process.env['CAISSON_TEST_ACCELERATOR'] ?? 'auto';
  const { ok, lines } = await runNode({
    image,
    disks,
    resultFile: join(directory, 'result'),
    memoryMib: MEMORY_MIB,
    timeoutMs: TIMEOUT_MS,
    settings: { ACCELERATOR: accelerator },
    onLine: say,
  });
  for (const line of lines) process.stdout.write(`${line}\n`);
  process.stdout.write(`vhost-vsock: ${ok ? 'passed' : 'FAILED'}\n`);
  process.exitCode = ok ? 0 : 1;
} finally {
  await removeTree(directory);
}
