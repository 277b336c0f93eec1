import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tarGuard, TAR_LIMITS, type TarLimits, type TarSummary } from '../../src/image/tar-guard.ts';
import { makeTar, type TarEntry } from '../../images/layout.ts';

async function inspect(tar: Buffer, limits: Partial<TarLimits> = {}, step = tar.length): Promise<TarSummary> {
  const guard = tarGuard({ ...TAR_LIMITS, ...limits });
  for (let at = 0; at < tar.length; at += step) await guard.write(tar.subarray(at, at + step));
  return guard.finish();
}

async function inspectEntries(entries: readonly TarEntry[], limits: Partial<TarLimits> = {}): Promise<TarSummary> {
  return inspect(await makeTar(entries), limits);
}

describe('the tar guard', () => {
  it('counts entries and finds the end, however the bytes arrive', async () => {
    const tar = await makeTar([
      { name: './', type: 'directory' },
      { name: 'a', content: Buffer.alloc(1000, 1) },
    ]);
    for (const step of [1, 511, 512, 4000]) {
      const summary = await inspect(tar, {}, step);
      assert.deepEqual(summary, { entries: 2, endOffset: 512 + 512 + 1024, missingDirectories: [] });
    }
  });

  it('takes an empty archive, and one of nothing', async () => {
    const empty = { entries: 0, endOffset: 0, missingDirectories: ['.'] };
    assert.deepEqual(await inspect(Buffer.alloc(1024)), empty);
    assert.deepEqual(await inspect(Buffer.alloc(0)), empty);
  });

  it('names directories that have no entry, parents first', async () => {
    const entries: TarEntry[] = [{ name: 'a/b/c/file' }, { name: 'a/b', type: 'directory' }, { name: './d/.wh.x' }];
    assert.deepEqual((await inspectEntries(entries)).missingDirectories, ['.', 'a', 'a/b/c', 'd']);
  });

  it('accepts names that only look odd', async () => {
    const names = [
      '/',
      './a',
      'a..b',
      '...',
      '..a/b..',
      'a//b',
      '.wh.gone',
      '.wh..wh..opq',
      'ä/文',
      `${'d/'.repeat(300)}x`,
    ];
    assert.equal((await inspectEntries(names.map((name) => ({ name })))).entries, names.length);
  });

  it('does not care where symbolic links point: the guest follows them, in its root', async () => {
    await inspectEntries([{ name: 'a', type: 'symlink', linkname: '/etc/shadow' }]);
    await inspectEntries([{ name: 'b', type: 'symlink', linkname: '../../../etc' }]);
  });

  const hostile: [what: string, entry: TarEntry, message: RegExp][] = [
    ['..', { name: '..' }, /leads out/],
    ['../a', { name: '../a' }, /leads out/],
    ['a/../b', { name: 'a/../b' }, /leads out/],
    ['a/..', { name: 'a/..', type: 'directory' }, /leads out/],
    ['/a', { name: '/a' }, /absolute/],
    ['//a', { name: '//a' }, /absolute/],
    ['a long path out', { name: `${'d/'.repeat(200)}../../x` }, /leads out/],
    ['a link to ..', { name: 'a', type: 'link', linkname: '../b' }, /hard link to .* leads out/],
    ['a link to /', { name: 'a', type: 'link', linkname: '/b' }, /hard link to .* absolute/],
    ['.wh.', { name: '.wh.' }, /deletes no valid name/],
    ['a/.wh..', { name: 'a/.wh..' }, /deletes no valid name/],
    ['a/.wh.../', { name: 'a/.wh.../', type: 'directory' }, /deletes no valid name/],
    ['an overlong path', { name: `${'d/'.repeat(2100)}x` }, /too long/],
  ];
  for (const [what, entry, message] of hostile) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(inspectEntries([{ name: 'good' }, entry]), { code: 'failed_precondition', message });
    });
  }

  it('refuses too many entries and too many directories', async () => {
    const many = Array.from({ length: 20 }, (_, index) => ({ name: `directory-${index}/file` }));
    await assert.rejects(inspectEntries(many, { entries: 19 }), { message: /more than 19 entries/ });
    await assert.rejects(inspectEntries(many, { directoryBytes: 100 }), { message: /too many directories/ });
  });

  it('refuses what is cut short or no tar', async () => {
    const tar = await makeTar([{ name: 'a', content: Buffer.alloc(5000, 1) }]);
    for (const length of [100, 512 + 100, 3000]) {
      await assert.rejects(inspect(tar.subarray(0, length)), { message: /not a valid tar archive/ }, `${length}`);
    }
    await assert.rejects(inspect(Buffer.alloc(4096, 'x')), { message: /not a valid tar archive/ });
  });

  it('refuses a header that would fill the memory', async () => {
    const tar = await makeTar([{ name: 'x'.repeat(300) }]); // begins with a pax header
    const huge = Buffer.from(tar.subarray(0, 512));
    huge.write('77777777777\0', 124);
    huge.write('        ', 148);
    huge.write(
      `${huge
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
    );
    await assert.rejects(inspect(Buffer.concat([huge, Buffer.alloc(1024)])), { message: /exceeds max size/ });
  });
});
