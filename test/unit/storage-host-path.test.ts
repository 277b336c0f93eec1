import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { openHostPath } from '../../src/storage/volumes/host-path.ts';
import { mayHang, parseMounts } from '../../src/storage/volumes/mountinfo.ts';

const openFiles = async (): Promise<number> => (await readdir('/proc/self/fd')).length;

describe('host paths on a file system that hangs', () => {
  it('are given up, keep two threads busy at most, and are closed should they be found after all', async () => {
    const home = await mkdtemp(join(tmpdir(), 'caisson-host-path-'));
    const link = join(home, 'link');
    await symlink('/usr', link);
    const before = await openFiles();
    const hangs = Promise.withResolvers<boolean>();
    const asked: string[] = [];
    const look = ({ path }: { readonly path: string }): Promise<boolean> => (asked.push(path), hangs.promise);
    const late = { code: 'deadline_exceeded' };
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      const given = [link, link, link, home].map((path) => assert.rejects(openHostPath(path, look), late));
      while (asked.length < 2) await setImmediate();
      mock.timers.tick(30_000);
      await Promise.all(given);
      assert.equal(asked.length, 2);
      hangs.resolve(false);
      await using found = await openHostPath(link, look);
      assert.equal(found.path, '/usr');
    } finally {
      mock.timers.reset();
    }
    while ((await openFiles()) > before) await setImmediate();
    await rm(home, { recursive: true });
  });
});

describe('a mount', () => {
  it('may hang when another machine or a process serves it', () => {
    const line = (type: string): string => `36 35 98:0 / /mnt rw,noatime shared:1 - ${type} /dev/source rw`;
    const types = ['ext4', 'tmpfs', 'overlay', 'nfs', 'nfs4', 'nfsd', 'cifs', 'fuse', 'fuse.sshfs', 'fusectl', 'ceph'];
    const hanging = types.filter((type) => parseMounts(line(type)).some(mayHang));
    assert.deepEqual(hanging, ['nfs', 'nfs4', 'cifs', 'fuse', 'fuse.sshfs', 'ceph']);
  });
});
