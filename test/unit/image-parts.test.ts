import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { openDecompressed } from '../../src/image/decompress.ts';
import { Claims } from '../../src/image/disk.ts';
import { findRecord } from '../../src/image/names.ts';
import { toImage, type ImageRecord } from '../../src/image/record.ts';
import { SharedTasks } from '../../src/image/shared-tasks.ts';
import { removeTree } from '../../src/lib/files.ts';
import { useless } from './pod-fakes.ts';

const directory = await mkdtemp(join(tmpdir(), 'caisson-image-parts-'));
after(() => removeTree(directory));

async function decompress(data: Buffer): Promise<Buffer> {
  const path = join(directory, 'data');
  await writeFile(path, data);
  return buffer(await openDecompressed(path));
}

describe('decompression', () => {
  const parts = ['one', 'two'.repeat(200_000), '', 'three'].map((text) => Buffer.from(text));
  const skippable = Buffer.concat([Buffer.from('5a2a4d1804000000', 'hex'), Buffer.from('skip')]);

  it('takes one gzip member or many, and plain files', async () => {
    assert.deepEqual(await decompress(Buffer.concat(parts.map((part) => gzipSync(part)))), Buffer.concat(parts));
    for (const plain of ['', 'x', 'hello']) assert.equal((await decompress(Buffer.from(plain))).toString(), plain);
  });

  it('takes zstd frames of all kinds, skippable ones between them', async () => {
    const frames = parts.flatMap((part, index) => [zstdCompressSync(part), ...(index % 2 ? [skippable] : [])]);
    assert.deepEqual(await decompress(Buffer.concat([skippable, ...frames])), Buffer.concat(parts));
    const runs = Buffer.alloc(3_000_000); // blocks of one repeated byte
    assert.deepEqual(await decompress(zstdCompressSync(runs)), runs);
  });

  it('fails on what ends too early', async () => {
    for (const whole of [gzipSync(Buffer.alloc(5000, 'a')), zstdCompressSync(Buffer.alloc(5000, 'a'))]) {
      await assert.rejects(decompress(whole.subarray(0, whole.length - 1)));
    }
    const frames = Buffer.concat([
      zstdCompressSync(Buffer.from('a')),
      zstdCompressSync(Buffer.from('b')).subarray(0, 3),
    ]);
    await assert.rejects(decompress(frames), { code: 'failed_precondition', message: /middle of a frame/ });
  });
});

describe('shared tasks', () => {
  it('run once for all who wait, and again later', async () => {
    const tasks = new SharedTasks<number>();
    let runs = 0;
    const start = async (): Promise<number> => ++runs;
    const signal = new AbortController().signal;
    assert.deepEqual(await Promise.all([tasks.join('a', signal, start), tasks.join('a', signal, start)]), [1, 1]);
    assert.equal(await tasks.join('a', signal, start), 2);
  });

  it('are aborted with the last who waits, who sees the end of it', async () => {
    const tasks = new SharedTasks<void>();
    let isClean = false;
    const start = async (signal: AbortSignal): Promise<void> => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      await new Promise((resolve) => setTimeout(resolve, 20));
      isClean = true;
      signal.throwIfAborted();
    };
    const [first, second] = [new AbortController(), new AbortController()];
    const waiting = [first, second].map(({ signal }) => tasks.join('a', signal, start));
    first.abort();
    await assert.rejects(waiting[0] ?? Promise.resolve(), { code: 'cancelled' });
    assert.equal(isClean, false);
    second.abort();
    await assert.rejects(waiting[1] ?? Promise.resolve(), { code: 'cancelled' });
    assert.equal(isClean, true);
  });

  it('fail for all who wait', async () => {
    const tasks = new SharedTasks<void>();
    const start = (): Promise<void> => Promise.reject(new Error('no'));
    const { signal } = new AbortController();
    for (const result of [tasks.join('a', signal, start), tasks.join('a', signal, start)]) {
      await assert.rejects(result, { message: 'no' });
    }
  });
});

describe('finding an image', () => {
  const digest = `sha256:${'d'.repeat(64)}`;
  const record = (start: string, names: Partial<ImageRecord> = {}): [string, ImageRecord] => {
    const id = `sha256:${start.padEnd(64, '0')}`;
    const config = {
      user: '',
      env: [],
      entrypoint: [],
      cmd: [],
      workingDir: '',
      volumes: [],
      stopSignal: '',
      labels: {},
    };
    const base = { version: 1 as const, id, manifestDigest: digest, repoTags: [], repoDigests: [], layers: [] };
    return [id, { ...base, sizeBytes: 0, config, ...names }];
  };
  const records = new Map([
    record('beef1', {
      repoTags: ['docker.io/library/busybox:latest'],
      repoDigests: [`docker.io/library/busybox@${digest}`],
    }),
    record('beef2', { repoTags: ['docker.io/library/cafe:latest'] }),
    record('cafe3'),
  ]);
  const found = (text: string): string | undefined => findRecord(records, text)?.id.slice(7, 12);

  const cases: Record<string, string | undefined> = {
    [`sha256:beef1${'0'.repeat(59)}`]: 'beef1',
    [`beef1${'0'.repeat(59)}`]: 'beef1',
    beef1: 'beef1',
    'sha256:beef2': 'beef2',
    beef: undefined, // two of them
    bee: undefined,
    cafe: 'beef2', // a name before a prefix
    cafe3: 'cafe3',
    busybox: 'beef1',
    'busybox:latest': 'beef1',
    'docker.io/library/busybox': 'beef1',
    [`busybox@${digest}`]: 'beef1',
    [`busybox:any@${digest}`]: 'beef1',
    [`other@${digest}`]: undefined,
    'busybox:other': undefined,
    '': undefined,
    '../x': undefined,
  };
  it('knows which are pinned', () => {
    const pinned = (...names: string[]): string[] =>
      [...records.values()]
        .filter((one) => toImage(one, useless('disk'), names).pinned)
        .map(({ id }) => id.slice(7, 12));
    assert.deepEqual(pinned(), []);
    assert.deepEqual(pinned('busybox'), ['beef1']);
    assert.deepEqual(pinned('busybox:other', 'docker.io/library/cafe:latest'), ['beef2']);
    assert.deepEqual(pinned('docker.io/library/*'), ['beef1', 'beef2']);
    assert.deepEqual(pinned('quay.io/*', 'NOT A NAME'), []);
  });

  for (const [text, start] of Object.entries(cases)) {
    it(`by ${text.slice(0, 30) || 'nothing'} gives ${start ?? 'none'}`, () => assert.equal(found(text), start));
  }
});

describe('claims', () => {
  it('last until the last of them is given back', () => {
    const claims = new Claims();
    const [first, second] = [claims.add(['a', 'b']), claims.add(['a'])];
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    assert.deepEqual([claims.has('a'), claims.has('b')], [true, false]);
    second[Symbol.dispose]();
    assert.equal(claims.has('a'), false);
  });
});
