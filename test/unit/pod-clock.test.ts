import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { syncClock, type Clocked } from '../../src/pod/clock.ts';

interface Move {
  readonly byMs: number;
  readonly slowly: boolean;
}

/** A guest whose clock is `aheadMs` ahead; its nth answer takes `answersMs[n]`, in equal parts there and back. */
function guest(aheadMs: number, answersMs: readonly number[]): { vm: Clocked; moves: Move[]; asked: () => number } {
  const moves: Move[] = [];
  let asked = 0;
  const half = (): void => mock.timers.tick((answersMs[asked] ?? answersMs.at(-1) ?? 0) / 2);
  const adjustClock: Clocked['agent']['adjustClock'] = async (byMs, { slowly }) => {
    if (byMs !== 0) moves.push({ byMs, slowly });
    half();
    const time = Date.now() + aheadMs;
    half();
    asked++;
    return time;
  };
  return { vm: { agent: { adjustClock } }, moves, asked: () => asked };
}

const never = new AbortController().signal;

describe("a guest's clock", () => {
  beforeEach(() => mock.timers.enable({ apis: ['Date'], now: 1_800_000_000_000 }));
  afterEach(() => mock.timers.reset());

  it('is left alone when it is right', async () => {
    const { vm, moves } = guest(2, [0]);
    await syncClock(vm, true, never);
    assert.deepEqual(moves, []);
  });

  it('is moved at once before anything runs', async () => {
    const { vm, moves } = guest(-3_600_000, [0]);
    await syncClock(vm, true, never);
    assert.deepEqual(moves, [{ byMs: 3_600_000, slowly: false }]);
  });

  it('is moved slowly under a running pod, unless it is far off', async () => {
    const near = guest(100, [0]);
    await syncClock(near.vm, false, never);
    assert.equal(near.moves[0]?.slowly, true);
    const far = guest(100_000, [0]);
    await syncClock(far.vm, false, never);
    assert.equal(far.moves[0]?.slowly, false);
  });

  it('is compared by the quickest of a few answers', async () => {
    const { vm, moves, asked } = guest(60, [200, 100, 10]);
    await syncClock(vm, true, never);
    assert.equal(asked(), 4);
    assert.deepEqual(moves, [{ byMs: -60, slowly: false }]);
  });

  it('is not moved by less than the doubt', async () => {
    const { vm, moves } = guest(20, [80]);
    await syncClock(vm, true, never);
    assert.deepEqual(moves, []);
  });
});
