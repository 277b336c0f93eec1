import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { orAborted } from '../../src/lib/async.ts';

test('what was given up before it began may fail without ending the daemon', async () => {
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  process.on('unhandledRejection', note);
  try {
    const late = sleep(5).then(() => Promise.reject(new Error('too late for anybody')));
    await assert.rejects(orAborted(late, AbortSignal.abort()), { code: 'cancelled' });
    await sleep(20);
    assert.deepEqual(unhandled, []);
  } finally {
    process.off('unhandledRejection', note);
  }
});

test('what is given up while it runs may fail, too', async () => {
  const caller = new AbortController();
  const late = sleep(20).then(() => Promise.reject(new Error('too late for anybody')));
  const answer = orAborted(late, caller.signal);
  caller.abort();
  await assert.rejects(answer, { code: 'cancelled' });
  await sleep(40);
});
