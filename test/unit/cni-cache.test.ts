import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openCache } from '../../src/network/cni/cache.ts';

describe('CNI results on disk', () => {
  it('are left alone at the next start, without what was being written', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'caisson-cache-'));
    try {
      await writeFile(join(directory, 'a.json'), '{');
      await writeFile(join(directory, 'b.json.new'), '{');
      const cache = await openCache(directory);
      assert.deepEqual(await readdir(directory), ['a.json']);
      assert.equal((await cache.read('a')).kind, 'broken');
      assert.equal((await cache.read('b')).kind, 'none');
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('need no directory', async () => {
    const cache = await openCache(join(tmpdir(), 'caisson-no-such-directory'));
    assert.equal((await cache.read('a')).kind, 'none');
  });
});
