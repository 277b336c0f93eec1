import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { memoryOf } from '../../src/vm/memory.ts';
import { openTemplate, templateFiles } from '../../src/vm/template/files.ts';

describe("a clone's memory", () => {
  it('is a private mapping only where no helper process can ever need it', () => {
    assert.equal(memoryOf({ dense: true }, 'vhost-vsock').kind, 'private');
    assert.equal(memoryOf({ dense: false }, 'vhost-vsock').kind, 'copied');
    assert.equal(memoryOf({}, 'vhost-vsock').kind, 'copied');
    assert.match(memoryOf({}, 'vhost-vsock').reason, /virtiofsd/);
    assert.equal(memoryOf({ dense: true }, 'vhost-user-vsock').kind, 'copied');
    assert.match(memoryOf({ dense: true }, 'vhost-user-vsock').reason, /vhost-device-vsock/);
  });

  it('is of the same template as its devices, even when another takes its place', async () => {
    const home = await mkdtemp(join(tmpdir(), 'caisson-template-'));
    try {
      for (const name of ['one', 'two']) {
        await mkdir(join(home, name));
        const files = templateFiles(join(home, name));
        for (const file of [files.ram, files.state, files.scratch]) await writeFile(file, name);
      }
      await using template = await openTemplate(join(home, 'one'));
      await rename(join(home, 'one'), join(home, 'old'));
      await rename(join(home, 'two'), join(home, 'one'));
      const { ram, state, scratch } = template;
      for (const file of [ram, state, scratch]) assert.equal(await file.readFile('utf8'), 'one');
      assert.equal(await readFile(templateFiles(join(home, 'one')).ram, 'utf8'), 'two');
      await assert.rejects(openTemplate(join(home, 'two')), { code: 'ENOENT' });
    } finally {
      await rm(home, { recursive: true });
    }
  });
});
