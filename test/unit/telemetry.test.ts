import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CaissonError } from '../../src/lib/errors.ts';
import { createLogger } from '../../src/telemetry/index.ts';
import type { LoggerOptions } from '../../src/telemetry/index.ts';
import { redact } from '../../src/telemetry/redact.ts';

interface Fields {
  readonly [name: string]: unknown;
  readonly err?: Fields;
}

function logger(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ level: 'info', pretty: false, destination, ...options });
  return { log, lines, records: () => lines.map((line) => JSON.parse(line) as Fields) };
}

describe('logger', () => {
  it('writes a JSON object a line, with the fields of its parents', () => {
    const { log, records } = logger();
    log.child({ component: 'pod' }).child({ sandboxId: 'a' }).info({ n: 1 }, 'started');
    log.debug({}, 'not at this level');
    const [record, ...others] = records();
    assert.deepEqual(others, []);
    const { time, ...rest } = record ?? {};
    assert.match(String(time), /^\d{4}-\d\d-\d\dT/);
    assert.deepEqual(rest, { level: 'info', component: 'pod', sandboxId: 'a', n: 1, msg: 'started' });
  });

  it('shows the causes of an error, its hint, and nothing of the command it ran', () => {
    const { log, records } = logger();
    const inner = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED', env: { PASSWORD: 'x' } });
    const outer = new CaissonError('unavailable', 'cannot pull busybox', { cause: inner, hint: 'is the registry up?' });
    log.error({ err: outer }, 'pull failed');
    const { stack, ...err } = records()[0]?.err ?? {};
    assert.match(String(stack), /ECONNREFUSED\n\s+at /);
    assert.deepEqual(err, {
      type: 'CaissonError',
      message: 'cannot pull busybox',
      code: 'unavailable',
      hint: 'is the registry up?',
      causes: [{ type: 'Error', message: 'connect ECONNREFUSED', code: 'ECONNREFUSED' }],
    });
  });

  it('survives a thrown string and causes that go in circles', () => {
    const { log, records } = logger();
    const error = new Error('a');
    error.cause = error;
    log.error({ err: error }, 'x');
    log.error({ err: 'just text' }, 'x');
    assert.equal(records()[0]?.err?.['message'], 'a');
    assert.deepEqual(records()[1]?.err, { type: 'string', message: 'just text' });
  });

  it('redacts secrets at any depth, in children too', () => {
    const { log, lines } = logger();
    const config = { envs: [{ key: 'K', value: 'hunter2' }], image: { Auth: { password: 'hunter2' } } };
    log.child({ token: 'hunter2' }).info({ request: { list: [config] }, env: ['A=hunter2'] }, 'create');
    assert.ok(!lines.join('').includes('hunter2'), lines.join(''));
    assert.match(lines.join(''), /"Auth":"\[redacted\]"/);
  });

  it('is one line for people too', () => {
    const { log, lines } = logger({ pretty: true });
    log.info({ sandboxId: 'a' }, 'started');
    assert.match(lines.join(''), /^\[.*INFO.*started.*sandboxId.*\n$/);
  });
});

describe('redact', () => {
  it('leaves empty values, class instances and other fields alone', () => {
    const date = new Date(0);
    assert.deepEqual(redact({ auth: null, env: '', date, n: [1] }), { auth: null, env: '', date, n: [1] });
  });

  it('ends on circular data', () => {
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    assert.ok(JSON.stringify(redact(circular)).includes('[too deep]'));
  });
});
