import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { closeSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { CreditedOutput } from '../../guest-agent/src/credited-output.ts';
import { dataMessage, withDataMessages } from '../../guest-agent/src/data-message.ts';
import { pipe } from '../../guest-agent/src/native.ts';
import { Precedence } from '../../guest-agent/src/precedence.ts';
import { forwardPipe, type OutputSink } from '../../guest-agent/src/process-output.ts';
import { loadContract } from '../../guest-agent/src/server.ts';
import { CreditReader, MAX_OUTPUT_DATA_BYTES, OUTPUT_CREDIT_BYTES as CREDIT_BYTES } from '../../src/lib/credit.ts';

/** An output and the host's reader of it, joined as over a network; `sent` counts what left the guest. */
function joined() {
  const state = { sent: 0, messages: 0, ends: 0 };
  const later = (task: () => void) => void setImmediate(task);
  const reader: CreditReader = new CreditReader(CREDIT_BYTES, (bytes) => later(() => output.grant(bytes)));
  const output: CreditedOutput = new CreditedOutput({
    data: (data) => {
      state.sent += data.length;
      state.messages++;
      const copy = Buffer.from(data);
      later(() => reader.receive(copy));
    },
    end: () => {
      state.ends++;
      later(() => reader.receiveEnd());
    },
  });
  return { reader, output, state };
}

test('everything arrives from a buffer that is used again and again, whatever the sizes', async () => {
  const { reader, output } = joined();
  const data = randomBytes(5_000_000);
  const shared = Buffer.alloc(300_000);
  const got = buffer(reader);
  for (let at = 0, size = 0; at < data.length; at += size) {
    size = Math.min(randomInt(3) === 0 ? randomInt(1, 200) : randomInt(1, shared.length), data.length - at);
    data.copy(shared, 0, at, at + size);
    if (!output.write(shared.subarray(0, size))) await output.drained();
  }
  await Promise.all([output.end(), output.end()]);
  assert.ok(data.equals(await got));
});

test('a reader that does not read stops the output at its credit, and then lets it go on', async () => {
  const { reader, output, state } = joined();
  const data = Buffer.alloc(4 * CREDIT_BYTES);
  assert.equal(output.write(data), false);
  const drained = output.drained();
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(state.sent > CREDIT_BYTES / 2 && state.sent <= CREDIT_BYTES, `${state.sent}`);
  const got = buffer(reader);
  await drained;
  assert.equal(state.sent, data.length);
  await output.end();
  assert.equal((await got).length, data.length);
});

test('tiny pieces of output use up the credit as well', () => {
  const { output, state } = joined();
  let taken = 0;
  while (output.write(Buffer.from('x'))) taken++;
  assert.ok(taken < 5000 && state.messages === taken, `${taken}`);
});

test('more credit than was used is refused; without a client all is dropped and nobody waits', async () => {
  const { output, state } = joined();
  output.write(Buffer.from('hello'));
  assert.throws(() => output.grant(1000), { code: 'resource_exhausted' });
  const second = joined();
  second.output.write(Buffer.alloc(2 * CREDIT_BYTES));
  const { messages } = second.state;
  const drained = second.output.drained();
  second.output.discard();
  await drained;
  assert.equal(second.output.write(Buffer.alloc(10)), true);
  await second.output.end();
  assert.deepEqual([second.state.messages, second.state.ends, state.ends], [messages, 0, 0]);
});

test('data encoded by hand is what the contract says, at every length of the length', () => {
  const { Exec } = loadContract().Agent.service;
  const { responseSerialize, responseDeserialize } = withDataMessages(Exec);
  for (const length of [1, 127, 128, 16_383, 16_384, MAX_OUTPUT_DATA_BYTES]) {
    const data = randomBytes(length);
    for (const [stream, field] of [
      ['STDOUT', 'stdout'],
      ['STDERR', 'stderr'],
    ] as const) {
      const { encoded } = dataMessage(stream, data);
      assert.ok(encoded.equals(Exec.responseSerialize({ [field]: data })), `${length}`);
      assert.ok(responseDeserialize(encoded)[field]?.equals(data));
    }
  }
  assert.ok(responseSerialize({ end: 'STDERR' } as never).equals(Exec.responseSerialize({ end: 'STDERR' })));
});

test('a pipe is read to its end, with pauses when the sink asks for them', async () => {
  const { read, write } = pipe();
  const size = 3_000_000;
  const child = spawn('head', ['-c', String(size), '/dev/zero'], { stdio: ['ignore', write, 'inherit'] });
  child.once('spawn', () => closeSync(write));
  let bytes = 0;
  let overrun = false;
  let waiting = false;
  const sink: OutputSink = {
    write: (data) => {
      overrun ||= waiting;
      bytes += data.length;
      waiting = true;
      return false;
    },
    drained: () =>
      new Promise((resolve) => {
        setImmediate(() => {
          waiting = false;
          resolve();
        });
      }),
  };
  const { ended, wasActive } = forwardPipe(read, sink);
  await ended;
  assert.deepEqual([bytes, overrun, wasActive(), wasActive()], [size, false, true, false]);
});

test('bulk waits for control calls and a moment longer, small pieces do not, and calls without end hold nothing for ever', async () => {
  const precedence = new Precedence();
  assert.equal(precedence.over(1e6), undefined);
  const call = Promise.withResolvers<string>();
  const answer = precedence.of(() => call.promise);
  assert.equal(precedence.over(100), undefined);
  const order: string[] = [];
  const waited = precedence.over(1e6)?.then(() => order.push('bulk'));
  assert.ok(waited);
  call.resolve('done');
  order.push(await answer);
  await waited;
  assert.deepEqual(order, ['done', 'bulk']);
  assert.equal(precedence.over(1e6), undefined);
  void precedence.of(() => new Promise(() => undefined));
  await precedence.over(1e6);
});
