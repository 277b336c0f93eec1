import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { OutputChunk } from '../../src/agent/contracts.ts';
import { ContainerLog } from '../../src/pod/log-writer.ts';

async function logFile(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-log-'));
  t.after(() => rm(directory, { recursive: true }));
  return join(directory, 'sub', 'c.log');
}

/** Chunks as the agent sends them: offsets of both streams together, times that only grow. */
function chunks(...texts: readonly (readonly ['stdout' | 'stderr', string])[]): OutputChunk[] {
  let endOffset = 0;
  return texts.map(([stream, text], index) => {
    const data = Buffer.from(text);
    endOffset += data.length;
    return { stream, data, endOffset, timeNs: String(1_700_000_000_000_000_000n + BigInt(index)) };
  });
}

const textOf = async (path: string): Promise<string[]> =>
  (await readFile(path, 'utf8')).split('\n').map((line) => line.slice('2023-11-14T22:13:20.000000000Z '.length));

test('acknowledges what is in the file, and no unended line', async (t) => {
  const path = await logFile(t);
  const log = await ContainerLog.open(path);
  const offsets = [];
  for (const chunk of chunks(
    ['stdout', 'ab\ncd'],
    ['stderr', 'x\n'],
    ['stdout', 'ef'],
    ['stdout', '\n'],
    ['stderr', 'y'],
  )) {
    offsets.push(await log.write(chunk));
  }
  // the chunk that `cd` began in comes again as a whole
  assert.deepEqual(offsets, [0, 0, 0, 10, 10]);
  await log.end();
  assert.deepEqual(await textOf(path), ['stdout F ab', 'stderr F x', 'stdout F cdef', 'stderr P y', '']);
});

test('does not let a prompt hold the other stream back for ever', async (t) => {
  const path = await logFile(t);
  const log = await ContainerLog.open(path);
  const flood = Array.from({ length: 10 }, () => ['stderr', `${'z'.repeat(9_999)}\n`] as const);
  let last = 0;
  for (const chunk of chunks(['stdout', 'name? '], ...flood)) last = await log.write(chunk);
  assert.equal(last, 100_006);
  await log.end();
  assert.ok((await textOf(path)).includes('stdout P name? '));
});

for (const stored of [0, 1, 2, 3, 4, 5]) {
  test(`goes on behind ${stored} stored chunks without loss or repetition`, async (t) => {
    const path = await logFile(t);
    const all = chunks(
      ['stdout', 'a\nb\nc'],
      ['stderr', 'x\ny\n'],
      ['stdout', 'd\ne'],
      ['stderr', 'z'],
      ['stdout', 'f\n'],
    );
    const first = await ContainerLog.open(path);
    let acknowledged = 0;
    for (const chunk of all.slice(0, stored)) acknowledged = await first.write(chunk);
    await first.leave();
    // killed in the middle of the next write
    await appendFile(path, '2023-11-14T22:13:20.0000000');
    for (const [round, known] of [0, acknowledged].entries()) {
      const log = await ContainerLog.resume(path);
      for (const chunk of all.filter(({ endOffset }) => endOffset > known)) await log.write(chunk);
      if (round === 1) await log.end();
      else await log.leave();
    }
    const lines = await textOf(path);
    assert.deepEqual(lines, [
      'stdout F a',
      'stdout F b',
      'stderr F x',
      'stderr F y',
      'stdout F cd',
      'stdout F ef',
      'stderr P z',
      '',
    ]);
  });
}

test('resumes a log that is missing, empty, or only the beginning of a line', async (t) => {
  const path = await logFile(t);
  await (await ContainerLog.resume(path)).leave();
  await writeFile(path, '2023-11-14T22:13:20.');
  const log = await ContainerLog.resume(path);
  for (const chunk of chunks(['stdout', 'a\n'])) await log.write(chunk);
  await log.end();
  assert.deepEqual(await textOf(path), ['stdout F a', '']);
});

test('counts the lines of one chunk, however many they are', async (t) => {
  const path = await logFile(t);
  const [chunk] = chunks(['stdout', '\n'.repeat(60_000)]);
  assert.ok(chunk);
  const first = await ContainerLog.open(path);
  await first.write(chunk);
  await first.leave();
  const log = await ContainerLog.resume(path);
  await log.write(chunk);
  await log.end();
  assert.equal((await textOf(path)).length, 60_001);
});
