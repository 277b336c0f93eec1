import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mount } from '../../proto/generated/runtime/runtime/v1/Mount.ts';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

/** Node and what it needs of the host: busybox has no program that watches. */
const NODE = [
  ['/node', process.execPath],
  ['/lib64', '/usr/lib64'],
  ['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu'],
].map(([container_path, host_path]) => ({ container_path, host_path, readonly: true }) as Mount);

describe('volumes as the kubelet makes them, and devices', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let home: string;
  let cdi: string;
  let undo: AsyncDisposableStack;

  const start = (name: string, mounts: Mount[], command = ['sleep', '100000']): Promise<string> =>
    pods.createAndStart(pod, name, command, { mounts });
  const sh = async (id: string, script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await pods.sh(daemon, id, script);
    assert.equal(exitCode, 0, `${script}: ${stderr}`);
    return stdout;
  };
  const until = async (what: string, test: () => Promise<boolean>): Promise<void> => {
    for (const deadline = Date.now() + 30_000; !(await test()); await sleep(100))
      assert.ok(Date.now() < deadline, `${what} did not happen`);
  };

  before(async () => {
    undo = new AsyncDisposableStack();
    cdi = await temporaryDirectory();
    undo.defer(() => rm(cdi, { recursive: true }));
    daemon = await startTestDaemon({ config: { cdi: { spec_dirs: [cdi] } } });
    undo.use(daemon);
    home = join(daemon.dir, 'kubelet');
    await mkdir(home);
    pod = await pods.runPod(daemon, 'kubelet');
  });
  after(() => undo.disposeAsync());

  /** In the steps of the kubelet's AtomicWriter. */
  const project = async (
    directory: string,
    version: string,
    files: Readonly<Record<string, string>>,
  ): Promise<void> => {
    const data = `..${version}`;
    await mkdir(join(directory, data));
    for (const [name, content] of Object.entries(files)) {
      await writeFile(join(directory, data, name), content, { mode: 0o440 });
      await chown(join(directory, data, name), 0, 2000);
    }
    await chmod(join(directory, data), 0o755);
    await symlink(data, join(directory, '..data_tmp'));
    await rename(join(directory, '..data_tmp'), join(directory, '..data'));
    for (const name of Object.keys(files)) {
      await symlink(`..data/${name}`, join(directory, name)).catch(() => undefined); // there already
    }
  };

  it('shows changes of a ConfigMap, with the events that a watcher on the node would get', async () => {
    const map = join(home, 'configmap');
    await mkdir(map);
    await project(map, '2026_01', { key: 'one', gone: 'x' });
    const mounts = [{ container_path: '/config', host_path: map, readonly: true }, ...NODE];
    const script = 'require("node:fs").watch("/config", (_, name) => console.log(name)); console.log("watching")';
    const id = await start('watcher', mounts, ['/node', '-e', script]);
    const events = async (): Promise<string> => pods.textOf(await pods.readLog(pod, 'watcher.log'));
    await until('the watcher', async () => (await events()) === 'watching\n');
    assert.equal(
      await sh(id, 'cat /config/key; stat -Lc %g:%a /config/key; readlink /config/key'),
      'one2000:440\n..data/key\n',
    );
    assert.equal((await pods.sh(daemon, id, 'touch /config/x')).exitCode, 1);
    await project(map, '2026_02', { key: 'two', added: 'y' });
    await rm(join(map, 'gone'));
    await rm(join(map, '..2026_01'), { recursive: true });
    await until('the new value', async () => (await sh(id, 'cat /config/key')) === 'two');
    await until('the events', async () => (await events()).includes('..2026_01'));
    const seen = (await events()).split('\n');
    for (const name of ['..data', 'added', 'gone']) assert.ok(seen.includes(name), name);
    assert.equal(await sh(id, 'ls /config'), 'added\nkey\n');
    // the next daemon goes on watching, and finds what has changed meanwhile
    await daemon.stop('SIGKILL');
    await project(map, '2026_03', { key: 'three', added: 'y' });
    await daemon.restart();
    await until('the value from in between', async () => (await sh(id, 'cat /config/key')) === 'three');
    await project(map, '2026_04', { key: 'four', added: 'y' });
    await until('the last value', async () => (await sh(id, 'cat /config/key')) === 'four');
    await daemon.cri.runtime.RemoveContainer({ container_id: id });
  });

  it('makes a memory-backed emptyDir in the guest, with its limit, for all containers and for parts of it', async () => {
    const volume = join(home, 'pods/uid/volumes/kubernetes.io~empty-dir/cache');
    await mkdir(volume, { recursive: true });
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=2777,gid=3000', 'tmpfs', volume]);
    undo.defer(async () => void (await run('umount', ['-l', volume])));
    await mkdir(join(volume, 'part'));
    const subPath = join(home, 'pods/uid/volume-subpaths/cache/c/0');
    await mkdir(subPath, { recursive: true });
    await run('mount', ['--bind', join(volume, 'part'), subPath]);
    undo.defer(async () => void (await run('umount', ['-l', subPath])));
    const whole = await start('whole', [{ container_path: '/cache', host_path: volume }]);
    const part = await start('part', [{ container_path: '/part', host_path: subPath }]);
    assert.match(await sh(whole, 'grep " /cache " /proc/mounts'), /tmpfs.*size=1024k/);
    assert.equal(await sh(whole, 'stat -c %g:%a /cache'), '3000:2777\n');
    await sh(whole, 'echo shared > /cache/part/file');
    assert.equal(await sh(part, 'cat /part/file'), 'shared\n');
    assert.notEqual((await pods.sh(daemon, whole, 'dd if=/dev/zero of=/cache/big bs=1M count=2')).exitCode, 0);
    assert.deepEqual(await readFile(join(volume, 'part/file'), 'utf8').catch(() => 'not here'), 'not here');
    // a link in the volume leads no later container out of it
    await sh(whole, 'rm -r /cache/part; ln -s / /cache/part');
    const mounts = [{ container_path: '/part', host_path: subPath }];
    await assert.rejects(pods.create(pod, 'escape', ['true'], { mounts }), /symbolic link/);
    for (const id of [whole, part]) await daemon.cri.runtime.RemoveContainer({ container_id: id });
  });

  it('sets huge pages aside for who may have them, and makes an emptyDir of them in the guest', async () => {
    const volume = join(home, 'pods/uid/volumes/kubernetes.io~empty-dir/huge');
    await mkdir(volume, { recursive: true });
    await run('mount', ['-t', 'hugetlbfs', '-o', 'pagesize=2M', 'nodev', volume]);
    undo.defer(async () => void (await run('umount', ['-l', volume])));
    const mounts = [{ container_path: '/huge', host_path: volume }];
    // as the kubelet has it: a limit for each size that the node has
    const limited = (bytes: string) => ({
      mounts,
      linux: {
        resources: {
          hugepage_limits: [
            { page_size: '2MB', limit: bytes },
            { page_size: '1GB', limit: '0' },
          ],
        },
      },
    });
    const some = await pods.createAndStart(pod, 'huge', ['sleep', '100000'], limited('4194304'));
    const none = await pods.createAndStart(pod, 'not-huge', ['sleep', '100000'], limited('0'));
    assert.match(await sh(some, 'grep " /huge " /proc/mounts'), /hugetlbfs.*pagesize=2M/);
    const total = async () => Number(/Total:\s+(\d+)/.exec(await sh(none, 'grep HugePages_Total /proc/meminfo'))?.[1]);
    assert.equal(await total(), 2);
    const take = (id: string, file: string, bytes: number) =>
      pods.sh(daemon, id, `fallocate -l ${bytes} /huge/${file}`).then(({ exitCode }) => exitCode);
    assert.notEqual(await take(none, 'mine', 2_097_152), 0, 'its limit is 0');
    assert.equal(await take(some, 'data', 4_194_304), 0);
    assert.equal(await sh(some, 'cat /sys/fs/cgroup/hugetlb.2MB.current'), '4194304\n');
    assert.notEqual(await take(some, 'more', 2_097_152), 0, 'all are taken');
    await assert.rejects(
      pods.create(pod, 'odd', ['true'], {
        linux: { resources: { hugepage_limits: [{ page_size: '64KB', limit: '65536' }] } },
      }),
      {
        code: 9,
        message: /no huge pages of 64 KiB/,
      },
    );
    await sh(some, 'rm /huge/data');
    await daemon.cri.runtime.StopContainer({ container_id: some, timeout: '0' });
    assert.equal(await total(), 0, 'they are ordinary memory again');
    for (const id of [some, none]) await daemon.cri.runtime.RemoveContainer({ container_id: id });
  });

  it('gives a container the devices that every kernel has, and block devices of the node', async (t) => {
    const disk = join(home, 'disk');
    await writeFile(disk, '');
    await run('truncate', ['-s', '8M', disk]);
    const loop = await run('losetup', ['--show', '-f', disk]).then(
      ({ stdout }) => stdout.trim(),
      () => undefined,
    );
    if (loop === undefined) return t.skip('no loop devices');
    undo.defer(async () => void (await run('losetup', ['-d', loop])));
    const devices = [
      { container_path: '/dev/fuse', host_path: '/dev/fuse', permissions: 'rwm' },
      { container_path: '/dev/xvda', host_path: loop, permissions: 'rw' },
    ];
    const id = await pods.createAndStart(pod, 'devices', ['sleep', '100000'], { devices });
    assert.equal(
      await sh(id, 'ls -l /dev/fuse | cut -c1; dd if=/dev/fuse of=/dev/null count=0 && echo opened'),
      'c\nopened\n',
    );
    await sh(id, 'echo from the guest | dd of=/dev/xvda conv=fsync');
    assert.equal((await readFile(disk)).subarray(0, 14).toString(), 'from the guest');
    const other = await pods.createAndStart(pod, 'no-devices', ['sleep', '100000']);
    assert.notEqual((await pods.sh(daemon, other, 'ls /dev/xvda')).exitCode, 0);
    const cases: [string, RegExp][] = [
      ['/dev/kvm', /INVALID_ARGUMENT.*device 10:232 of the node/],
      ['/dev/ptmx', /INVALID_ARGUMENT.*of the node/],
      ['/etc/passwd', /INVALID_ARGUMENT.*is a file/],
      ['/dev/no-such', /does not exist/],
    ];
    for (const [host_path, message] of cases) {
      const refused = [{ container_path: '/dev/x', host_path, permissions: 'rwm' }];
      await assert.rejects(pods.create(pod, 'refused', ['true'], { devices: refused }), message);
    }
  });

  it('gives a container what a CDI device adds', async () => {
    const lib = join(home, 'lib');
    await mkdir(lib);
    await writeFile(join(lib, 'driver'), 'of the node\n');
    const spec = `
cdiVersion: "0.6.0"
kind: example.com/device
devices:
  - name: one
    containerEdits:
      env: [ "DEVICE=one" ]
      deviceNodes: [ { path: /dev/one, hostPath: /dev/fuse } ]
      mounts: [ { hostPath: "${lib}", containerPath: /usr/lib/one, options: [ ro ] } ]
`;
    await writeFile(join(cdi, 'device.yaml'), spec);
    const CDI_devices = [{ name: 'example.com/device=one' }];
    const id = await pods.createAndStart(pod, 'cdi', ['sleep', '100000'], { CDI_devices });
    assert.equal(
      await sh(
        id,
        'echo $DEVICE; cat /usr/lib/one/driver; ls -l /dev/one | cut -c1; touch /usr/lib/one/x 2>/dev/null || echo no',
      ),
      'one\nof the node\nc\nno\n',
    );
    const { mounts } = await pods.containerStatus(daemon, id);
    assert.deepEqual(mounts, [], 'only what was asked for is reported');
    const unknown = [{ name: 'example.com/device=two' }];
    await assert.rejects(
      pods.create(pod, 'refused', ['true'], { CDI_devices: unknown }),
      /INVALID_ARGUMENT.*device=two/,
    );
  });

  it('does not hand out a disk that the node has mounted', async (t) => {
    const { stdout } = await run('findmnt', ['-no', 'SOURCE', '/']);
    const root = stdout.trim().replace(/\[.*/, '');
    if (!root.startsWith('/dev/')) return t.skip(`the root is on ${root}`);
    const devices = [{ container_path: '/dev/x', host_path: root, permissions: 'r' }];
    await assert.rejects(pods.create(pod, 'refused', ['true'], { devices }), /has mounted on/);
  });
});
