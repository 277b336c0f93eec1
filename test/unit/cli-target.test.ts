import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { EntryReader } from '../../src/cli/logs/entries.ts';
import { parseSince } from '../../src/cli/logs/since.ts';
import { age } from '../../src/cli/pods/age.ts';
import { parsePorts } from '../../src/cli/pods/ports.ts';
import { findContainer, findPod, type Container, type Inventory, type Pod } from '../../src/cli/pods/target.ts';
import { cpuPercent } from '../../src/cli/pods/vm-usage.ts';
import { detachKeys } from '../../src/cli/streams/detach-keys.ts';
import { parseStatus } from '../../src/cli/streams/status.ts';

const pod = (id: string, name: string, namespace = 'default', ready = true): Pod => ({
  id,
  metadata: { name, namespace, uid: id, attempt: 0 },
  state: ready ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY',
  created_at: String(Number.parseInt(id, 16)),
  labels: {},
  annotations: {},
  runtime_handler: '',
});
const container = (id: string, pod_sandbox_id: string, name: string, running = true): Container => ({
  id,
  pod_sandbox_id,
  metadata: { name, attempt: 0 },
  image: null,
  image_ref: '',
  image_id: '',
  state: running ? 'CONTAINER_RUNNING' : 'CONTAINER_EXITED',
  created_at: String(Number.parseInt(id, 16)),
  labels: {},
  annotations: {},
});

const inventory: Inventory = {
  namespace: undefined,
  pods: [
    pod('a1', 'web'),
    pod('a2', 'db'),
    pod('a3', 'db', 'other'),
    pod('b1', 'again', 'default', true),
    pod('b2', 'again', 'default', false),
    pod('b3', 'empty'),
  ],
  containers: [
    container('c1', 'a1', 'nginx'),
    container('c2', 'a1', 'log'),
    container('d1', 'a2', 'pg'),
    container('e1', 'b1', 'job', true),
    container('e2', 'b1', 'job', false),
    container('e3', 'b2', 'job', false),
  ],
};
const found = (name: string): string => findContainer(inventory, name).container.id;

describe('a target', () => {
  it('is a container of a pod, the only one of a pod, or the start of an id', () => {
    assert.equal(found('web/log'), 'c2');
    assert.equal(found('a1/log'), 'c2');
    assert.equal(found('d'), 'd1');
    assert.equal(found('a2'), 'd1');
    assert.equal(findPod(inventory, 'web').id, 'a1');
    assert.equal(findPod(inventory, 'a3').id, 'a3');
  });

  it('is what lives, of several attempts', () => {
    assert.equal(found('again'), 'e1');
    assert.equal(findPod(inventory, 'again').id, 'b1');
  });

  it('is an error that names the choices when it is not clear', () => {
    assert.throws(
      () => found('web'),
      /default\/web can be any of default\/web\/nginx \(c1\), default\/web\/log \(c2\)/,
    );
    assert.throws(() => found('db'), { hint: 'name one by -n NAMESPACE' });
    assert.throws(() => found('c'), /can be any of default\/web\/nginx \(c1\), default\/web\/log \(c2\)/);
    assert.throws(() => findPod(inventory, 'a'), /default\/web \(a1\), default\/db \(a2\), other\/db \(a3\)/);
  });

  it('is an error that says what there is when there is none', () => {
    assert.throws(() => found('web/none'), {
      message: 'pod default/web has no container "none"',
      hint: 'it has nginx, log',
    });
    assert.throws(() => found('none'), /there is no pod or container "none"/);
    assert.throws(() => found('empty'), /pod default\/empty has no containers/);
    assert.throws(() => findPod({ ...inventory, namespace: 'x' }, 'none'), /there is no pod "none" in namespace x/);
  });
});

describe('small parts of the commands', () => {
  it('read ports', () => {
    assert.deepEqual(
      [parsePorts('80'), parsePorts('8080:80'), parsePorts(':80')],
      [
        { local: 80, remote: 80 },
        { local: 8080, remote: 80 },
        { local: 0, remote: 80 },
      ],
    );
  });

  it('read times', () => {
    const now = Date.parse('2026-01-02T00:00:00Z');
    assert.equal(parseSince('1h30m', now), '2026-01-01T22:30:00.000000000Z');
    assert.equal(parseSince('1.5s', now), '2026-01-01T23:59:58.500000000Z');
    assert.equal(parseSince('2026-01-02T01:00:00.25+01:00', now), '2026-01-02T00:00:00.250000000Z');
    for (const wrong of ['', '5', 'h', '1h 2m', 'yesterday']) assert.throws(() => parseSince(wrong), /is no time/);
  });

  it('tell an age and a share of a processor', () => {
    assert.deepEqual(
      ['0', '1000000000'].map((ns) => age(ns, 61_000)),
      ['1m', '1m'],
    );
    assert.equal(age('0', 42_999), '42s');
    assert.equal(cpuPercent({ atMs: 0, cpuMs: 100, rssBytes: 0 }, { atMs: 2000, cpuMs: 3100, rssBytes: 0 }), 150);
    assert.equal(cpuPercent(undefined, { atMs: 2000, cpuMs: 3100, rssBytes: 0 }), null);
  });

  it('cut a log into entries, however its bytes come', () => {
    const bytes = Buffer.from(
      '2026-01-02T03:04:05.000000001Z stdout P a b\nnonsense\n2026-01-02T03:04:06.000000001Z stderr F \n',
    );
    for (const size of [1, 7, 200]) {
      const reader = new EntryReader();
      const ends: number[] = [];
      const entries = [];
      for (let at = 0; at < bytes.length; at += size) {
        for (const { entry, end } of reader.push(bytes.subarray(at, at + size))) {
          entries.push([entry.stream, entry.partial, entry.text.toString()]);
          ends.push(at + end);
        }
      }
      assert.deepEqual(entries, [
        ['stdout', true, 'a b'],
        ['stderr', false, ''],
      ]);
      assert.deepEqual(ends, [44, bytes.length]);
    }
  });

  it('see the keys that detach, also when they come one by one', async () => {
    const typed = async (...keys: number[][]): Promise<[string, boolean]> => {
      let detached = false;
      const transform = detachKeys(() => (detached = true));
      return [await text(Readable.from(keys.map((key) => Buffer.from(key))).pipe(transform)), detached];
    };
    assert.deepEqual(await typed([97, 0x10, 0x11, 98]), ['a', true]);
    assert.deepEqual(await typed([97, 0x10], [0x11]), ['a', true]);
    assert.deepEqual(await typed([0x10], [0x10], [98]), ['\u0010\u0010b', false]);
    assert.deepEqual(await typed([0x10]), ['\u0010', false]);
  });

  it('read a status', () => {
    const status = (causes: object[], reason: string) =>
      JSON.stringify({ status: 'Failure', message: 'm', reason, details: { causes } });
    assert.deepEqual(parseStatus('{"metadata":{},"status":"Success"}'), { exitCode: 0 });
    assert.deepEqual(parseStatus(status([{ reason: 'ExitCode', message: '255' }], 'NonZeroExitCode')), {
      exitCode: 255,
    });
    assert.deepEqual(parseStatus(status([{ reason: 'not_found' }], 'InternalError')), {
      failure: 'm',
      word: 'not_found',
    });
    assert.throws(() => parseStatus('nonsense'), /ended the stream with nonsense/);
    assert.throws(() => parseStatus(status([], 'NonZeroExitCode')), /ended the stream with/);
  });
});
