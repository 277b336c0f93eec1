import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, Steps } from '../support/steps.ts';

const LIVE = new AbortController().signal;

test('a failed check is counted and the next one runs', async () => {
  const steps = new Steps({ signal: LIVE, explain: () => 'why', print: () => undefined });
  await steps.check('bad', () => assert.fail('no'));
  await steps.check('good', () => undefined);
  assert.equal(steps.summary(), '1 passed, 1 failed');
  assert.equal(steps.failed, 1);
});

test('a failed need ends its section and no other', async () => {
  const steps = new Steps({ signal: LIVE, explain: () => '', print: () => undefined });
  await steps.section('outer', async () => {
    await steps.section('inner', async () => {
      await steps.need('bad', () => assert.fail('no'));
      await steps.check('never', () => undefined);
    });
    assert.equal(await steps.need('good', () => 7), 7);
  });
  assert.equal(steps.summary(), '1 passed, 1 failed');
});

test('what a section throws outside its steps is a failure', async () => {
  const steps = new Steps({ signal: LIVE, explain: () => Promise.reject(new Error('no')), print: () => undefined });
  await steps.section('bad', () => Promise.reject(new Error('thrown')));
  assert.equal(steps.summary(), '0 passed, 1 failed');
});

test('after an interruption no step runs, and the one it broke is no failure', async () => {
  const interruption = new AbortController();
  const steps = new Steps({ signal: interruption.signal, explain: () => '', print: () => undefined });
  await steps.section('interrupted', async () => {
    await steps.check('broken', () => {
      interruption.abort();
      throw new Error('cancelled');
    });
    await steps.check('never', () => assert.fail('it ran'));
  });
  await steps.section('never', () => assert.fail('it ran'));
  assert.equal(steps.summary(), '0 passed, 0 failed');
});

test('a failure is printed with its reason and its explanation, no line endless', async () => {
  const lines: string[] = [];
  const explain = (): string => `told\n${'x'.repeat(10_000)}`;
  const steps = new Steps({ signal: LIVE, explain, print: (line) => lines.push(line) });
  await steps.check('bad', () => assert.fail('the reason'));
  const text = lines.join('\n');
  assert.match(text, /FAIL {2}bad \(\d+ ms\)/);
  assert.match(text, /the reason/);
  assert.match(text, /\| told$/m);
  assert.ok(text.length < 5000);
});

test('eventually tries until it works, and throws the last error when it never does', async () => {
  let tries = 0;
  const third = (): number => (++tries < 3 ? assert.fail(`try ${tries}`) : tries);
  assert.equal(await eventually(third, 1000, 1), 3);
  await assert.rejects(
    eventually(() => assert.fail('never'), 20, 5),
    /never/,
  );
});
