import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Mount } from '../../proto/generated/runtime/runtime/v1/Mount.ts';
import { busyboxImage } from '../../images/busybox.ts';
import type { ImageSpec, TarEntry } from '../../images/layout.ts';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countResources, processesOf, settledResources, type Resources } from '../support/resources.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

const DECLARING = 'caisson.test/declaring:latest';

/** Declares volumes: one with content, one that is not there, one that is a link out of the root, and nonsense. */
async function declaringImage(): Promise<ImageSpec> {
  const base = await busyboxImage(DECLARING);
  const content: TarEntry[] = [
    { name: 'data', type: 'directory', uid: 1000, gid: 1000, mode: 0o750 },
    { name: 'data/seed', content: 'of the image\n', uid: 1000, gid: 1000 },
    { name: 'link', type: 'symlink', linkname: '../../../../etc' },
  ];
  const Volumes = { '/data': {}, '/new/': {}, '/link': {}, '/': {}, '/mounted': {} };
  return { ...base, layers: [...base.layers, { content }], config: { ...base.config, Volumes } };
}

describe('mounts below volumes, image volumes, and volumes that outlive the daemon', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let home: string;
  let empty: Resources;
  const mounted: string[] = [];

  const mountTmpfs = async (path: string): Promise<void> => {
    await mkdir(path, { recursive: true });
    await run('mount', ['-t', 'tmpfs', 'caisson-test', path]);
    mounted.push(path);
  };
  const unmount = async (path: string, ...options: string[]): Promise<void> => {
    await run('umount', [...options, path]);
    mounted.splice(mounted.indexOf(path), 1);
  };
  /** A directory that is a mount of its own and hands on what is mounted below it. */
  const sharedMount = async (name: string): Promise<string> => {
    const path = join(home, name);
    await mkdir(path);
    await run('mount', ['--bind', path, path]);
    mounted.push(path);
    await run('mount', ['--make-rshared', path]);
    return path;
  };
  const start = (name: string, mounts: Mount[]): Promise<string> =>
    pods.createAndStart(pod, name, ['sleep', '100000'], { mounts });
  const sh = async (id: string, script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await pods.sh(daemon, id, script);
    assert.equal(exitCode, 0, `${script}: ${stderr}`);
    return stdout;
  };
  const fails = async (id: string, script: string, words: RegExp): Promise<void> => {
    const { stderr, exitCode } = await pods.sh(daemon, id, script);
    assert.notEqual(exitCode, 0, script);
    assert.match(stderr, words);
  };
  const remove = (id: string) => daemon.cri.runtime.RemoveContainer({ container_id: id });

  before(async () => {
    daemon = await startTestDaemon({ images: [await busyboxImage(pods.BUSYBOX), await declaringImage()] });
    home = join(daemon.dir, 'host');
    await mkdir(home);
    empty = await countResources(daemon);
    pod = await pods.runPod(daemon, 'mounts');
  });
  after(async () => {
    for (const path of mounted.toReversed()) await run('umount', ['-l', path]);
    await daemon[Symbol.asyncDispose]();
  });

  it('are recursively read-only, or only on top, as asked', async () => {
    const data = join(home, 'nested');
    await mountTmpfs(join(data, 'tmpfs'));
    const { runtime_handlers } = await daemon.cri.runtime.Status({});
    assert.ok(runtime_handlers.every(({ features }) => features?.recursive_read_only_mounts));
    const top = await start('top', [{ container_path: '/data', host_path: data, readonly: true }]);
    await fails(top, 'touch /data/file', /Read-only file system/);
    await sh(top, 'echo below > /data/tmpfs/file');
    assert.equal(await readFile(join(data, 'tmpfs/file'), 'utf8'), 'below\n');
    const all = await start('all', [
      { container_path: '/data', host_path: data, readonly: true, recursive_read_only: true },
    ]);
    await fails(all, 'touch /data/file', /Read-only file system/);
    await fails(all, 'touch /data/tmpfs/file', /Read-only file system/);
    assert.equal(await sh(all, 'cat /data/tmpfs/file'), 'below\n');
    const [outer, inner] = (await sh(all, 'stat -c %d /data /data/tmpfs')).split('\n');
    assert.notEqual(outer, inner, 'one file system cannot be told from the other');
    for (const id of [top, all]) await remove(id);
    await unmount(join(data, 'tmpfs'));
  });

  it('see what is mounted later on the node only if asked to, and hide nothing when it goes', async () => {
    const shared = await sharedMount('later');
    await mkdir(join(shared, 'point'));
    const mount = { container_path: '/data', host_path: shared };
    const priv = await start('private', [mount]);
    const slave = await start('slave', [{ ...mount, propagation: 'PROPAGATION_HOST_TO_CONTAINER' }]);
    assert.equal(await sh(slave, 'ls /data/point'), '');
    await mountTmpfs(join(shared, 'point'));
    await writeFile(join(shared, 'point/file'), 'seen');
    await new Promise((resolve) => setTimeout(resolve, 1500)); // names are cached for a second
    assert.equal(await sh(slave, 'cat /data/point/file'), 'seen');
    assert.equal(await sh(priv, 'ls /data/point'), '');
    await unmount(join(shared, 'point'), '-l'); // the guest remembers files of it: see docs/limitations.md
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.equal(await sh(slave, 'ls /data/point'), '');
    const { mounts } = await pods.containerStatus(daemon, slave);
    assert.deepEqual(
      mounts.map(({ propagation }) => propagation),
      ['PROPAGATION_HOST_TO_CONTAINER'],
    );
    for (const id of [priv, slave]) await remove(id);
  });

  it('refuses to pass on what the mount on the node does not', async () => {
    const path = join(home, 'lonely');
    await mountTmpfs(path);
    await run('mount', ['--make-private', path]);
    const mounts: Mount[] = [
      { container_path: '/data', host_path: path, propagation: 'PROPAGATION_HOST_TO_CONTAINER' },
    ];
    await assert.rejects(pods.create(pod, 'lonely', ['true'], { mounts }), /passes nothing on/);
    await unmount(path);
  });

  it('lets go of a volume when its container has ended', async () => {
    const path = join(home, 'released');
    await mountTmpfs(path);
    await writeFile(join(path, 'file'), 'x');
    const mounts = [
      { container_path: '/data', host_path: path },
      { container_path: '/file', host_path: join(path, 'file') },
    ];
    const id = await pods.createAndStart(pod, 'released', ['cat', '/data/file', '/file'], { mounts });
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    const pids = (await processesOf(daemon)).filter(({ name }) => name === 'virtiofsd').map(({ pid }) => pid);
    assert.equal(pids.length, 2);
    const holders = async (): Promise<string[]> => {
      const tables = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/mountinfo`, 'utf8')));
      return tables
        .flatMap((text) => text.split('\n'))
        .filter((line) => line.includes('caisson-test /') || / \/[0-9a-f]{64}/.test(line));
    };
    for (let i = 0; i < 100 && (await holders()).length > 0; i++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(await holders(), []);
    await unmount(path); // fails if anybody held it
    await remove(id);
  });

  it('are also what the image declares: writable, with its content, and gone with the container', async () => {
    await mkdir(join(home, 'instead'));
    const overrides = {
      image: { image: DECLARING },
      linux: { security_context: { readonly_rootfs: true } },
      mounts: [{ container_path: '/mounted', host_path: join(home, 'instead') }],
    };
    const id = await pods.createAndStart(pod, 'declares', ['sleep', '100000'], overrides);
    assert.equal(
      await sh(id, 'stat -c %u:%g:%a /data /data/seed; cat /data/seed'),
      '1000:1000:750\n1000:1000:644\nof the image\n',
    );
    await sh(id, 'echo x > /data/x; echo y > /new/y; echo z > /mounted/z; ls /link');
    assert.equal(await readFile(join(home, 'instead/z'), 'utf8'), 'z\n');
    await fails(id, 'touch /no', /Read-only file system/);
    assert.equal((await pods.containerStatus(daemon, id)).mounts.length, 1);
    const other = await pods.createAndStart(pod, 'declares-too', ['sleep', '100000'], { image: { image: DECLARING } });
    assert.equal(await sh(other, 'ls /data /new'), '/data:\nseed\n\n/new:\n');
    await remove(id);
    await remove(other);
  });

  it('shows images, whole and in part, read-only and not to be executed', async () => {
    const image = { image: pods.BUSYBOX };
    const mounts = [
      { container_path: '/image', image, readonly: true },
      { container_path: '/part', image, image_sub_path: 'etc', readonly: true },
    ];
    const id = await start('images', mounts);
    assert.match(await sh(id, 'cat /image/etc/passwd'), /^app:x:1000/m);
    assert.equal(await sh(id, 'ls /part'), 'group\npasswd\n');
    await fails(id, 'touch /image/x', /Read-only file system/);
    await fails(id, '/image/bin/busybox true', /Permission denied/);
    const seen = (await pods.containerStatus(daemon, id)).mounts;
    assert.deepEqual(
      seen.map((mount) => [mount.container_path, mount.image?.image, mount.image_sub_path]),
      [
        ['/image', pods.BUSYBOX, ''],
        ['/part', pods.BUSYBOX, 'etc'],
      ],
    );
    await remove(id);
    const cases: [Mount, RegExp][] = [
      [{ container_path: '/x', image }, /INVALID_ARGUMENT.*read-only/],
      [{ container_path: '/x', image: { image: 'no.such/image' }, readonly: true }, /NOT_FOUND.*has not been pulled/],
      [
        { container_path: '/x', image, readonly: true, image_sub_path: 'no/such' },
        /there is no "no\/such" in the image/,
      ],
      [{ container_path: '/x', image, readonly: true, image_sub_path: '../etc' }, /not a path within/],
    ];
    for (const [mount, message] of cases)
      await assert.rejects(pods.create(pod, 'refused', ['true'], { mounts: [mount] }), message);
  });

  it('go on, grow and end after the daemon was killed', async () => {
    const data = join(home, 'kept');
    await mkdir(data);
    const mounts = [{ container_path: '/data', host_path: data }];
    const id = await start('kept', mounts);
    const quick = await pods.createAndStart(pod, 'quick', ['sleep', '1'], { mounts });
    await daemon.stop('SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await daemon.restart();
    await pods.waitForState(daemon, quick, 'CONTAINER_EXITED');
    await sh(id, 'echo still > /data/there');
    assert.equal(await readFile(join(data, 'there'), 'utf8'), 'still\n');
    const next = await start('next', mounts);
    assert.equal(await sh(next, 'cat /data/there'), 'still\n');
    const share = (await readdir(join(daemon.config.state, 'volumes')))[0] ?? '';
    const held = await readdir(join(daemon.config.state, 'volumes', share, 'share'));
    assert.deepEqual(held.toSorted(), [id, next].toSorted());
    for (const one of [id, quick, next]) await remove(one);
  });

  it('says when virtiofsd has died, and ends the pod', async () => {
    const data = join(home, 'lost');
    await mkdir(data);
    const id = await start('lost', [{ container_path: '/data', host_path: data }]);
    for (const { pid, name } of await processesOf(daemon)) if (name === 'virtiofsd') process.kill(pid, 'SIGKILL');
    const status = await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    assert.equal(status.reason, 'VMDied');
    assert.match(status.message, /virtiofsd has ended/);
    const { status: sandbox } = await daemon.cri.runtime.PodSandboxStatus({ pod_sandbox_id: pod.id });
    assert.equal(sandbox?.state, 'SANDBOX_NOTREADY');
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
    assert.deepEqual(await settledResources(daemon, { ...empty, mounts: empty.mounts + mounted.length }), {
      ...empty,
      mounts: empty.mounts + mounted.length,
    });
  });

  it('clears away what a killed daemon left of a pod that has died', async () => {
    const data = join(home, 'left');
    await mkdir(data);
    const left = await pods.runPod(daemon, 'left');
    await pods.createAndStart(left, 'c', ['sleep', '1000'], { mounts: [{ container_path: '/data', host_path: data }] });
    await daemon.stop('SIGKILL');
    for (const { pid, name } of await processesOf(daemon)) if (name.startsWith('qemu')) process.kill(pid, 'SIGKILL');
    await daemon.restart();
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: left.id });
    const { shares, virtiofsd } = await settledResources(daemon, empty);
    assert.deepEqual([shares, virtiofsd], [0, 0]);
  });
});
