import assert from 'node:assert/strict';
import { it } from 'node:test';
import { fuzz } from '../fuzz/fuzz.ts';
import { targets } from '../fuzz/targets.ts';

/** Always the same cases; `npm run fuzz` looks for new ones. */
const CASES = { seed: 1, cases: 300, ms: 30_000 };

for (const name of ['agent', 'spdy', 'ssh', 'websocket']) {
  it(`what speaks ${name} survives what a fuzzer sends`, { timeout: 120_000 }, async () => {
    const open = targets[name];
    assert.ok(open);
    const said: string[] = [];
    const { failed } = await fuzz(open, { ...CASES, say: (line) => said.push(line) });
    assert.equal(failed, 0, said.join('\n'));
  });
}
