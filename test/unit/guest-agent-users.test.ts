import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { resolveUser } from '../../guest-agent/src/users.ts';

const passwd = 'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n';
const group = 'root:x:0:\napps:x:1001:\nextra:x:2000:app,other\n';
let home = '';

async function rootfs(name: string): Promise<string> {
  const root = join(home, name);
  await mkdir(join(root, 'etc'), { recursive: true });
  await writeFile(join(root, 'etc/group'), group);
  return root;
}

const ask = (user: string, more = {}) => ({
  user,
  gid: undefined,
  supplementalGroups: [],
  strictGroups: false,
  ...more,
});

describe('the user of a container', () => {
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'caisson-users-'));
    await writeFile(join(await rootfs('good'), 'etc/passwd'), passwd);
  });
  after(() => rm(home, { recursive: true }));

  it('is looked up in the image’s own files', async () => {
    const root = join(home, 'good');
    const app = { uid: 1000, gid: 1001, supplementalGroups: [1001, 2000], home: '/home/app' };
    assert.deepEqual(resolveUser(root, ask('app')), app);
    assert.deepEqual(resolveUser(root, ask('1000')), app);
    assert.deepEqual(resolveUser(root, ask('app:extra')), { ...app, gid: 2000, supplementalGroups: [2000] });
    assert.deepEqual(resolveUser(root, ask('app', { strictGroups: true })), {
      ...app,
      supplementalGroups: [1001],
    });
    assert.deepEqual(resolveUser(root, ask('4242:77')), {
      uid: 4242,
      gid: 77,
      supplementalGroups: [77],
      home: undefined,
    });
    assert.equal(resolveUser(root, ask('')).uid, 0);
  });

  it('is not found in a line whose ids are none', async () => {
    const root = await rootfs('strange');
    const ids = ['0x0', '-1', '4294967296', '2147483648', '', ' 0', '1e1', '00000000000'];
    const lines = ids.flatMap((id, number) => [`u${number}:x:${id}:1000::/:`, `g${number}:x:1000:${id}::/:`]);
    await writeFile(join(root, 'etc/passwd'), `${lines.join('\n')}\napp:x:1000:1001::/home/app:/bin/sh\n`);
    await writeFile(join(root, 'etc/group'), ids.map((id, number) => `h${number}:x:${id}:app`).join('\n'));
    for (const number of ids.keys()) {
      for (const name of [`u${number}`, `g${number}`])
        assert.throws(() => resolveUser(root, ask(name)), /is not in the image/, name);
      assert.throws(() => resolveUser(root, ask(`app:h${number}`)), /is not in the image/);
    }
    assert.deepEqual(resolveUser(root, ask('app')).supplementalGroups, [1001]);
  });

  it('must exist and have an id in range', async () => {
    const root = join(home, 'good');
    assert.throws(() => resolveUser(root, ask('nobody')), /user "nobody" is not in/);
    assert.throws(() => resolveUser(root, ask('app:none')), /group "none" is not in/);
    for (const id of ['4294967296', '2147483648']) assert.throws(() => resolveUser(root, ask(id)), /is not between/);
    for (const id of ['-1', '0x0']) assert.throws(() => resolveUser(root, ask(id)), /is not in the image/);
  });

  it('does not come from a link out of the root, a pipe or a giant', async () => {
    const linked = await rootfs('linked');
    await symlink('/etc/passwd', join(linked, 'etc/passwd'));
    assert.throws(() => resolveUser(linked, ask('daemon')), /user "daemon" is not in/);
    const piped = await rootfs('piped');
    execFileSync('mkfifo', [join(piped, 'etc/passwd')]);
    assert.throws(() => resolveUser(piped, ask('app')), /user "app" is not in/);
    const giant = await rootfs('giant');
    await writeFile(join(giant, 'etc/passwd'), '');
    await truncate(join(giant, 'etc/passwd'), 2 ** 30);
    assert.throws(() => resolveUser(giant, ask('app')), /larger than 1 MiB/);
  });
});
