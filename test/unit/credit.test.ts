import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { test } from 'node:test';
import { buffer } from 'node:stream/consumers';
import { Readable } from 'node:stream';
import { CreditReader, CreditWriter, INPUT_CREDIT_BYTES as CREDIT_BYTES } from '../../src/lib/credit.ts';

/** A writer and a reader joined as over a network; `sent` counts what left the writer. */
function joined() {
  const state = { sent: 0, granted: 0 };
  const later = (task: () => void) => void setImmediate(task);
  const reader: CreditReader = new CreditReader(CREDIT_BYTES, (bytes) => {
    state.granted += bytes;
    later(() => writer.grant(bytes));
  });
  const writer: CreditWriter = new CreditWriter({
    data: (data) => {
      state.sent += data.length;
      later(() => reader.receive(data));
    },
    end: () => later(() => reader.receiveEnd()),
  });
  return { reader, writer, state };
}

test('everything arrives, in order, whatever the sizes', async () => {
  const { reader, writer } = joined();
  const data = randomBytes(5_000_000);
  const parts: Buffer[] = [];
  for (let at = 0, size = 0; at < data.length; at += size) {
    size = randomInt(3) === 0 ? randomInt(1, 200) : randomInt(1, 200_000);
    parts.push(data.subarray(at, at + size));
  }
  Readable.from(parts).pipe(writer);
  assert.ok(data.equals(await buffer(reader)));
});

test('a reader that does not read stops the writer at its credit', async () => {
  const { reader, writer, state } = joined();
  const data = Buffer.alloc(4 * CREDIT_BYTES);
  writer.end(data);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(state.sent > CREDIT_BYTES / 2 && state.sent <= CREDIT_BYTES, `${state.sent}`);
  assert.equal(state.granted, 0);
  assert.equal((await buffer(reader)).length, data.length);
});

test('tiny messages use up the credit as well', async () => {
  const { writer, state } = joined();
  for (let at = 0; at < 50_000; at++) writer.write('x');
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(state.sent < 5000, `${state.sent}`);
});

test('a peer that breaks the rules is found out', () => {
  const reader = new CreditReader(CREDIT_BYTES, () => undefined);
  for (let at = 0; at < 3; at++) reader.receive(Buffer.alloc(64 * 1024));
  assert.throws(() => reader.receive(Buffer.alloc(64 * 1024)), { code: 'resource_exhausted' });
  const writer = new CreditWriter({ data: () => undefined, end: () => undefined });
  writer.write('hello');
  assert.throws(() => writer.grant(1000), { code: 'resource_exhausted' });
});

test('what is written when nobody is there any more is dropped, also what waits', async () => {
  const sent: string[] = [];
  const writer = new CreditWriter({ data: () => sent.push('data'), end: () => sent.push('end') });
  writer.write(Buffer.alloc(2 * CREDIT_BYTES));
  const messages = sent.length;
  const done = new Promise<void>((resolve) => writer.write('more', () => resolve()));
  writer.discard();
  await done;
  await new Promise<void>((resolve) => writer.end(() => resolve()));
  assert.equal(sent.length, messages);
});

test('a reader that was destroyed lets the writer go on', async () => {
  const { reader, writer } = joined();
  reader.destroy();
  await new Promise<void>((resolve) => writer.end(Buffer.alloc(8 * CREDIT_BYTES), () => resolve()));
});
