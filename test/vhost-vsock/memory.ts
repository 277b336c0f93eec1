import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { shortId } from '../../src/lib/ids.ts';
import { findProcesses } from '../../src/lib/processes.ts';
import { exec, createAndStart, type TestPod } from '../support/pods.ts';
import type { Steps } from '../support/steps.ts';
import { runDense, type Timings } from './pods.ts';

export interface MemoryInput {
  readonly dense: TestPod;
  readonly usual: TestPod;
  /** one that runs in `dense` */
  readonly container: string;
  /** the template's file */
  readonly ram: string;
  readonly times: Timings;
}

const BOOT_ID = ['cat', '/proc/sys/kernel/random/boot_id'];

/** How the clones' memory is mapped, what it costs, and that each has its own. */
export async function checkMemory(steps: Steps, { dense, usual, container, ram, times }: MemoryInput): Promise<void> {
  const { daemon } = dense;
  await steps.check('a dense clone maps the file of the template privately, a usual one has a copy', async () => {
    const [own, copied] = [await mappings(dense), await mappings(usual)];
    assert.match(own.find((line) => line.endsWith(` ${ram}`)) ?? 'not mapped', /^\S+ rw-p /);
    assert.ok(!own.some((line) => line.includes('/memfd:caisson-')));
    assert.ok(!copied.some((line) => line.includes(ram)));
    assert.match(copied.find((line) => line.includes('/memfd:caisson-')) ?? 'not mapped', /^\S+ rw-s /);
  });
  await steps.check('the dense one has fewer pages of its own', async () => {
    const [own, copied] = [await ownMib(dense), await ownMib(usual)];
    times.set('memory of its own, QEMU of the dense pod with a container', `${own} MiB`);
    times.set('memory of its own, QEMU of the usual pod without one', `${copied} MiB`);
    assert.ok(own < copied, `${own} MiB and ${copied} MiB`);
  });
  await steps.check('a sibling of the dense one has another identity', async () => {
    const sibling = await runDense(daemon, 'sibling');
    const other = await createAndStart(sibling, 'sleep', ['sleep', '86400']);
    const [mine, its] = [await exec(daemon, container, BOOT_ID), await exec(daemon, other, BOOT_ID)];
    assert.match(mine.stdout, /^[0-9a-f-]{36}\n$/);
    assert.notEqual(mine.stdout, its.stdout);
  });
}

async function proc(pod: TestPod, file: string): Promise<string[]> {
  const name = `caisson-${shortId(pod.id)},`;
  const [qemu] = await findProcesses(
    (commandLine) => /^\S*qemu-system/.test(commandLine) && commandLine.includes(name),
  );
  assert.ok(qemu, `no QEMU of ${pod.id}`);
  return (await readFile(`/proc/${qemu.pid}/${file}`, 'utf8')).split('\n');
}

const mappings = (pod: TestPod): Promise<string[]> => proc(pod, 'maps');

/** What would be free without it. Pages of the template that it alone has read count as clean: the page cache keeps them. */
async function ownMib(pod: TestPod): Promise<number> {
  const lines = await proc(pod, 'smaps_rollup');
  const kib = lines.flatMap((line) => /^Private_Dirty:\s+(\d+) kB$/.exec(line)?.[1] ?? [])[0];
  assert.ok(kib, 'no Private_Dirty');
  return Math.round(Number(kib) / 1024);
}
