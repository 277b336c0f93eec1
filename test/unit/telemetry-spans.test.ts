import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { annotate, traced, tracedApart, tracedSync } from '../../src/lib/trace.ts';
import { medianPhases, phasesOf, recordSpans, waterfall, type RecordedTrace } from '../../src/telemetry/index.ts';

let traces: RecordedTrace[];
let recorder: Disposable;

beforeEach(() => {
  traces = [];
  recorder = recordSpans((recorded) => traces.push(recorded));
});
afterEach(() => recorder[Symbol.dispose]());

/** `name` for a root, `parent/name` for what is below */
const tree = (recorded: RecordedTrace): string[] => {
  const names = new Map(recorded.map(({ id, name }) => [id, name]));
  return recorded.map(({ name, parentId }) => (parentId === undefined ? name : `${names.get(parentId)}/${name}`));
};

describe('spans', () => {
  it('follow promises, side by side as well', async () => {
    const phase = (name: string): Promise<string> =>
      traced(name, async () => {
        await turn();
        return traced(`${name}.inner`, async () => name);
      });
    const both = await tracedApart('rpc', { pod: 'p' }, () => {
      annotate({ sandboxId: 'x' });
      return Promise.all([phase('a'), phase('b')]);
    });
    assert.deepEqual(both, ['a', 'b']);
    assert.deepEqual(traces.map(tree), [['rpc', 'rpc/a', 'rpc/b', 'a/a.inner', 'b/b.inner']]);
    assert.deepEqual(traces[0]?.[0].attributes, { pod: 'p', sandboxId: 'x' });
    for (const { startMs, endMs = 0 } of traces[0] ?? []) assert.ok(endMs >= startMs);
  });

  it('know what failed, and let the error through', async () => {
    const fail = async (): Promise<void> => Promise.reject(new Error('no'));
    await assert.rejects(
      tracedApart('rpc', {}, () => traced('bad', fail)),
      /no/,
    );
    assert.deepEqual(
      traces[0]?.map(({ failed }) => failed),
      [true, true],
    );
    assert.throws(() => tracedSync('sync', () => assert.fail('no')));
  });

  it('of work that goes on behind the answer are said to go on, or are left out', async () => {
    const end = Promise.withResolvers<void>();
    let late: Promise<void> = Promise.resolve();
    await tracedApart('rpc', {}, async () => {
      late = traced('goes on', () => end.promise.then(() => traced('too late', async () => undefined)));
    });
    end.resolve();
    await late;
    await traced('nobody asked', async () => undefined);
    assert.deepEqual(traces.map(tree), [['rpc', 'rpc/goes on']]);
    assert.equal(traces[0]?.[1]?.endMs, undefined);
  });

  it('are as good as not there when nobody records', async () => {
    recorder[Symbol.dispose]();
    assert.equal(await tracedApart('rpc', {}, async () => tracedSync('s', () => 7)), 7);
    assert.deepEqual(traces, []);
  });
});

const span = (name: string, parentId: string | undefined, startMs: number, endMs: number | undefined) => {
  return { id: name, parentId, name, startMs, endMs, failed: false, attributes: {} };
};
const example = (factor: number): RecordedTrace => [
  span('Run', undefined, 1000, 1000 + 100 * factor),
  span('first', 'Run', 1000, 1000 + 50 * factor),
  span('second', 'Run', 1000 + 50 * factor, 1000 + 100 * factor),
  span('inner', 'first', 1000, 1000 + 25 * factor),
];

describe('the waterfall', () => {
  it('indents, and draws each phase where it is in the whole', () => {
    const bar = (from: number, length: number): string => `${' '.repeat(from)}${'█'.repeat(length)}`;
    assert.deepEqual(waterfall(phasesOf(example(1))), [
      `Run            +0.0    100.0 ms  ${bar(0, 40)}`,
      `  first        +0.0     50.0 ms  ${bar(0, 20)}`,
      `    inner      +0.0     25.0 ms  ${bar(0, 10)}`,
      `  second      +50.0     50.0 ms  ${bar(20, 20)}`,
    ]);
  });

  it('shows a phase that is short, goes on, or failed', () => {
    const root = span('Run', undefined, 0, 100);
    const [, short, open] = waterfall(
      phasesOf([root, { ...span('short', 'Run', 99.9, 99.95), failed: true }, span('open', 'Run', 50, undefined)]),
    );
    assert.match(short ?? '', /short \(1 failed\).* {39}█$/);
    assert.match(open ?? '', /goes on +█{20}$/);
  });

  it('takes medians of the same phases', () => {
    const phases = medianPhases([example(3), example(1), example(2)]);
    assert.deepEqual(
      phases.map(({ name, depth, offsetMs, durationMs }) => [name, depth, offsetMs, durationMs]),
      [
        ['Run', 0, 0, 200],
        ['first', 1, 0, 100],
        ['inner', 2, 0, 50],
        ['second', 1, 100, 100],
      ],
    );
  });
});
