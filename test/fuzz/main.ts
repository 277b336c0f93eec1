/**
 * Feeds a parser of what strangers send with cases that a seed repeats:
 * `npm run fuzz -- agent|spdy|ssh|websocket [--seed N] [--cases N] [--seconds N]`.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';
import { targets } from './targets.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: 'string' }, cases: { type: 'string' }, seconds: { type: 'string', default: '30' } },
});
const [name = ''] = positionals;
const open = targets[name];
if (!open) {
  process.stderr.write(
    `usage: npm run fuzz -- ${Object.keys(targets).join('|')} [--seed N] [--cases N] [--seconds N]\n`,
  );
  process.exit(2);
}
const seed = values.seed === undefined ? randomInt(2 ** 32) : Number(values.seed);
const cases = values.cases === undefined ? Number.POSITIVE_INFINITY : Number(values.cases);
const result = await fuzz(open, { seed, cases, ms: Number(values.seconds) * 1000, say: (line) => console.log(line) });
console.log(`${result.passed} passed, ${result.failed} failed`);
process.exitCode = result.failed === 0 ? 0 : 1;
