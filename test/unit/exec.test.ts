import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../src/lib/exec.ts';
import { startTicks } from '../../src/lib/processes.ts';
import { waitForPath } from '../../src/lib/wait-for-path.ts';
import { removeTree } from '../../src/lib/files.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** Leaves its pid behind, then its parent waits for it: as a CNI plugin does for its IPAM plugin. */
const WITH_CHILD = 'sleep 60 & echo $! > pid.new; mv pid.new pid; wait';
/** as WITH_CHILD, but it has an answer to being asked to end */
const STUBBORN = `trap 'exit 3' TERM; ${WITH_CHILD}`;

for (const [what, script] of [
  ['a program', WITH_CHILD],
  ['a program that ends in peace', STUBBORN],
] as const) {
  test(`takes with ${what} that is cancelled what it has started`, async (t) => {
    const cwd = await temporaryDirectory();
    t.after(() => removeTree(cwd));
    const caller = new AbortController();
    const ended = run('sh', ['-c', script], { signal: caller.signal, cwd, ownGroup: true });
    ended.catch(() => undefined);
    await waitForPath(join(cwd, 'pid'), AbortSignal.timeout(10_000));
    const pid = Number(await readFile(join(cwd, 'pid'), 'utf8'));
    caller.abort();
    await assert.rejects(ended, { code: 'cancelled' });
    assert.equal(await state(pid), undefined);
  });
}

test('leaves alone what a program leaves behind that ends by itself', async (t) => {
  const cwd = await temporaryDirectory();
  t.after(() => removeTree(cwd));
  const { stdout } = await run('sh', ['-c', 'sleep 60 >/dev/null 2>&1 & echo $!'], { cwd, ownGroup: true });
  const pid = Number(stdout);
  assert.notEqual(await state(pid), undefined);
  process.kill(pid, 'SIGKILL');
});

/** undefined when it is gone or only waits to be reaped by process 1, which in a container may never do so */
async function state(pid: number): Promise<string | undefined> {
  if ((await startTicks(pid)) === undefined) return undefined;
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const letter = stat.slice(stat.lastIndexOf(')') + 2)[0];
  return letter === 'Z' ? undefined : letter;
}
