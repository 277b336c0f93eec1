import assert from 'node:assert/strict';
import { chown, lstat, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Mount } from '../../proto/generated/runtime/runtime/v1/Mount.ts';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countResources, settledResources, type Resources } from '../support/resources.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('volumes of a pod', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let home: string;
  let empty: Resources;

  /** A directory on the host with a file in it. */
  const directory = async (name: string): Promise<string> => {
    const path = join(home, name);
    await mkdir(path);
    await writeFile(join(path, 'file'), `in ${name}\n`);
    return path;
  };
  const start = (name: string, mounts: Mount[]): Promise<string> =>
    pods.createAndStart(pod, name, ['sleep', '100000'], { mounts });
  const sh = async (id: string, script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await pods.sh(daemon, id, script);
    assert.equal(exitCode, 0, `${script}: ${stderr}`);
    return stdout;
  };
  const remove = (id: string) => daemon.cri.runtime.RemoveContainer({ container_id: id });

  before(async () => {
    daemon = await startTestDaemon();
    empty = await countResources(daemon);
    home = join(daemon.dir, 'host');
    await mkdir(home);
    pod = await pods.runPod(daemon, 'volumes');
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('costs a pod without any nothing', async () => {
    const { shares, virtiofsd } = await countResources(daemon);
    assert.deepEqual([shares, virtiofsd], [0, 0]);
  });

  it('are directories and files of the host, with owners and modes, and what is written is there at once', async () => {
    const data = await directory('data');
    await chown(data, 0, 4000);
    const file = join(home, 'single');
    await writeFile(file, 'one\n', { mode: 0o640 });
    const id = await start('rw', [
      { container_path: '/data', host_path: data },
      { container_path: '/etc/single', host_path: file },
    ]);
    assert.equal(await sh(id, 'cat /data/file /etc/single'), 'in data\none\n');
    assert.equal(await sh(id, 'stat -c %g:%a /data /etc/single'), '4000:755\n0:640\n');
    await sh(id, 'echo two >> /etc/single; mkdir /data/new; echo x > /data/new/x; chown 77:88 /data/new/x');
    assert.equal(await readFile(file, 'utf8'), 'one\ntwo\n');
    const { uid, gid } = await stat(join(data, 'new/x'));
    assert.deepEqual([uid, gid], [77, 88]);
    await writeFile(join(data, 'later'), 'later');
    assert.equal(await sh(id, 'cat /data/later'), 'later');
    await remove(id);
  });

  it('reports exactly the mounts that were asked for', async () => {
    const data = await directory('asked');
    const mounts = [
      { container_path: '/b', host_path: data, readonly: true },
      { container_path: '/a', host_path: data },
    ];
    const id = await start('asked', mounts);
    const status = await pods.containerStatus(daemon, id);
    const seen = status.mounts.map(({ container_path, host_path, readonly }) => [container_path, host_path, readonly]);
    assert.deepEqual(seen, [
      ['/b', data, true],
      ['/a', data, false],
    ]);
    await remove(id);
  });

  it('takes the place of the files that the runtime makes, and keeps mounts below others visible', async () => {
    const hosts = join(home, 'hosts');
    await writeFile(hosts, '10.0.0.1 by-kubelet\n');
    const outer = await directory('outer');
    await mkdir(join(outer, 'inner'));
    const inner = await directory('inner');
    const id = await start('places', [
      { container_path: '/outer/inner', host_path: inner },
      { container_path: '/outer', host_path: outer },
      { container_path: '/etc/hosts', host_path: hosts },
    ]);
    assert.equal(await sh(id, 'cat /etc/hosts /outer/inner/file'), '10.0.0.1 by-kubelet\nin inner\n');
    await remove(id);
  });

  it('has the termination log on the host before the exit is reported', async () => {
    const log = join(home, 'termination-log');
    await writeFile(log, '');
    const mounts = [{ container_path: '/dev/termination-log', host_path: log }];
    const id = await pods.createAndStart(pod, 'last-words', ['sh', '-c', 'echo farewell > /dev/termination-log'], {
      mounts,
    });
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    assert.equal(await readFile(log, 'utf8'), 'farewell\n');
    await remove(id);
  });

  it('cannot be written when they are read-only, by the guest neither', async () => {
    const data = await directory('readonly');
    const id = await start('ro', [{ container_path: '/data', host_path: data, readonly: true }]);
    const { exitCode, stderr } = await pods.sh(daemon, id, 'echo x > /data/x');
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /Read-only file system/);
    assert.match(await sh(id, 'grep " /data " /proc/mounts'), / ro[, ]/);
    await remove(id);
  });

  it('follows symbolic links of the node', async () => {
    const data = await directory('target');
    await symlink(data, join(home, 'absolute'));
    await symlink('absolute/file', join(home, 'relative'));
    const id = await start('links', [
      { container_path: '/data', host_path: join(home, 'absolute') },
      { container_path: '/file', host_path: join(home, 'relative') },
    ]);
    assert.equal(await sh(id, 'cat /data/file /file'), 'in target\nin target\n');
    await remove(id);
  });

  it('follows no link that a pod has made', async () => {
    const shared = await directory('shared');
    const secret = await directory('secret');
    const id = await start('attacker', [{ container_path: '/shared', host_path: shared }]);
    await sh(id, `ln -s ${secret} /shared/link && mkdir /shared/sub && ln -s ${secret}/file /shared/sub/link`);
    assert.ok((await lstat(join(shared, 'link'))).isSymbolicLink());
    for (const path of ['link', 'link/file', 'sub/link']) {
      const mounts = [{ container_path: '/x', host_path: join(shared, path) }];
      await assert.rejects(
        pods.create(pod, 'victim', ['true'], { mounts }),
        /symbolic link in a volume that a pod can/,
      );
    }
    // also by another way to the same directory
    const alias = join(home, 'alias');
    await mkdir(alias);
    await run('mount', ['--bind', shared, alias]);
    try {
      const mounts = [{ container_path: '/x', host_path: join(alias, 'link') }];
      await assert.rejects(
        pods.create(pod, 'victim', ['true'], { mounts }),
        /symbolic link in a volume that a pod can/,
      );
    } finally {
      await run('umount', [alias]);
    }
    // what is seen through the share stays in the share
    assert.equal((await pods.sh(daemon, id, 'cat /shared/link/file')).exitCode, 1);
    await remove(id);
  });

  it('refuses what cannot be', async () => {
    const data = await directory('refused');
    const cases: [Mount, RegExp][] = [
      [{ container_path: '/x', host_path: '/no/such/path' }, /"\/no\/such\/path" does not exist/],
      [{ container_path: '/x', host_path: `${data}/file/below` }, /leads through a file/],
      [{ container_path: 'x', host_path: data }, /container_path.*not absolute/],
      [{ container_path: '/x/../y', host_path: data }, /container_path.*"\.\."/],
      [{ container_path: '/', host_path: data }, /container_path.*root/],
      [{ container_path: '/x', host_path: `${data}/../secret` }, /host_path.*"\.\."/],
      [{ container_path: '/x' }, /host_path.*empty/],
      [
        { container_path: '/x', host_path: data, propagation: 'PROPAGATION_BIDIRECTIONAL' },
        /INVALID_ARGUMENT.*on the node/,
      ],
      [{ container_path: '/x', host_path: data, recursive_read_only: true }, /INVALID_ARGUMENT.*needs readonly/],
      [
        {
          container_path: '/x',
          host_path: data,
          readonly: true,
          recursive_read_only: true,
          propagation: 'PROPAGATION_HOST_TO_CONTAINER',
        },
        /INVALID_ARGUMENT.*private propagation/,
      ],
      [{ container_path: '/x', host_path: '/dev/null' }, /character device of the node/],
    ];
    for (const [mount, message] of cases)
      await assert.rejects(pods.create(pod, 'refused', ['true'], { mounts: [mount] }), message);
  });

  it('are refused in a dense pod, whose memory nobody may share', async () => {
    const dense = await pods.runPod(daemon, 'dense', {}, 'caisson-dense');
    const mounts = [{ container_path: '/data', host_path: await directory('dense') }];
    await assert.rejects(pods.create(dense, 'refused', ['true'], { mounts }), /FAILED_PRECONDITION.*caisson-dense/);
    const id = await pods.createAndStart(dense, 'plain', ['sleep', '100000']);
    assert.equal((await pods.exec(daemon, id, ['true'])).exitCode, 0);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: dense.id });
  });

  it('leave nothing when the pod goes', async () => {
    const data = await directory('last');
    await start('last', [{ container_path: '/data', host_path: data }]);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
    assert.deepEqual(await settledResources(daemon, empty), empty);
    assert.equal(await readFile(join(data, 'file'), 'utf8'), 'in last\n');
  });
});
