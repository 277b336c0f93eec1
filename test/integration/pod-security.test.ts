import assert from 'node:assert/strict';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { NamespaceOption } from '../../proto/generated/runtime/runtime/v1/NamespaceOption.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const FOREVER = ['sleep', '100000'];

describe('namespaces and seccomp', { skip }, () => {
  let daemon: TestDaemon;
  const inNamespaces = (namespace_options: NamespaceOption) => ({ linux: { security_context: { namespace_options } } });
  /** What the processes that a container sees are called. */
  const processes = async (id: string): Promise<string[]> => {
    const { stdout, stderr, exitCode } = await pods.sh(daemon, id, 'cat /proc/[0-9]*/comm');
    assert.equal(exitCode, 0, stderr);
    return stdout.trim().split('\n');
  };

  before(async () => {
    daemon = await startTestDaemon();
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('a pod may share its processes, without those of the VM, and none are left as zombies', async () => {
    const pod = await pods.runPod(daemon, 'shared', inNamespaces({ pid: 'POD' }));
    const first = await pods.createAndStart(pod, 'first', ['top'], inNamespaces({ pid: 'POD' }));
    const orphans = 'for n in 1 2 3; do (sleep 0 &) ; done; exec sleep 100000';
    const second = await pods.createAndStart(pod, 'second', ['sh', '-c', orphans], inNamespaces({ pid: 'POD' }));
    const own = await pods.createAndStart(pod, 'own', ['tail', '-f', '/dev/null'], inNamespaces({ pid: 'CONTAINER' }));
    const seen = await processes(second);
    assert.ok(seen.includes('top') && seen.includes('sleep'), seen.join());
    assert.ok(!seen.includes('node') && !seen.includes('tail') && !seen.some((name) => name.startsWith('kworker')));
    assert.deepEqual(
      (await processes(own)).filter((name) => name === 'top' || name === 'sleep'),
      [],
    );
    const states = await pods.sh(daemon, second, "grep -h '^State:' /proc/[0-9]*/status");
    assert.doesNotMatch(states.stdout, /Z \(zombie\)/);

    await daemon.cri.runtime.StopContainer({ container_id: first, timeout: '60' });
    const { exit_code } = await pods.waitForState(daemon, first, 'CONTAINER_EXITED');
    assert.equal(exit_code, 143, 'ended by SIGTERM: it was not process 1');
    assert.equal((await pods.containerStatus(daemon, second)).state, 'CONTAINER_RUNNING');
  });

  it('a container may join the processes of another, and of nobody else', async () => {
    const pod = await pods.runPod(daemon, 'target');
    const target = await pods.createAndStart(pod, 'target', ['top']);
    const options = inNamespaces({ pid: 'TARGET', target_id: target });
    const guest = await pods.createAndStart(pod, 'guest', FOREVER, options);
    const seen = await processes(guest);
    assert.ok(seen.includes('top') && seen.includes('sleep') && !seen.includes('node'), seen.join());
    const later = await pods.create(pod, 'later', FOREVER, options);
    const elsewhere = await pods.runPod(daemon, 'elsewhere');
    await assert.rejects(pods.create(elsewhere, 'stranger', FOREVER, options), { code: 3 });
    await daemon.cri.runtime.StopContainer({ container_id: target, timeout: '0' });
    await assert.rejects(pods.create(pod, 'late', FOREVER, options), { code: 9 });
    await assert.rejects(daemon.cri.runtime.StartContainer({ container_id: later }), { code: 9 });
  });

  it('root of a user namespace is somebody else in the VM, and owns its files all the same', async () => {
    const mapping = [{ container_id: 0, host_id: 100_000, length: 65_536 }];
    const options = inNamespaces({ userns_options: { mode: 'POD', uids: mapping, gids: mapping } });
    const pod = await pods.runPod(daemon, 'mapped', options);
    const id = await pods.createAndStart(pod, 'mapped', FOREVER, options);
    const output = async (script: string) => {
      const { stdout, stderr, exitCode } = await pods.sh(daemon, id, script);
      assert.equal(exitCode, 0, stderr);
      return stdout.trim();
    };
    assert.match(
      await output('cat /proc/self/uid_map /proc/self/gid_map'),
      /^\s*0\s+100000\s+65536\n\s*0\s+100000\s+65536$/,
    );
    assert.equal(await output("stat -c '%u:%g' /bin/busybox /home/app"), '0:0\n1000:1000');
    assert.equal(await output('touch /new && chown 1000:1000 /new && stat -c %u:%g /new'), '1000:1000');
    assert.equal(await output('id -u; touch /etc/x /dev/shm/x && echo hello | tee /dev/stderr'), '0\nhello');
    // a port below 1024 takes no rights over the VM's network
    assert.equal(await output('nc -l -p 80 -e true & sleep 1; nc -w 2 127.0.0.1 80 </dev/null; echo done'), 'done');
    const user = {
      run_as_user: { value: '1000' },
      namespace_options: options.linux.security_context.namespace_options,
    };
    const app = await pods.createAndStart(pod, 'app', FOREVER, { linux: { security_context: user } });
    assert.equal((await pods.sh(daemon, app, 'id -u; touch ~/mine && stat -c %u ~/mine')).stdout, '1000\n1000\n');
  });

  it('volumes of a pod with a user namespace have their owners mapped as well, on both sides', async () => {
    const mapping = [{ container_id: 0, host_id: 200_000, length: 65_536 }];
    const options = inNamespaces({ userns_options: { mode: 'POD', uids: mapping, gids: mapping } });
    const pod = await pods.runPod(daemon, 'mapped-volumes', options);
    const data = join(daemon.dir, 'mapped-data');
    await mkdir(data);
    await writeFile(join(data, 'secret'), 'of root\n', { mode: 0o600 });
    const mapped = { uidMappings: mapping, gidMappings: mapping };
    const mounts = [
      { container_path: '/data', host_path: data, ...mapped },
      { container_path: '/fixed', host_path: data, readonly: true, ...mapped },
      { container_path: '/image', image: { image: pods.BUSYBOX }, readonly: true, ...mapped },
    ];
    const id = await pods.createAndStart(pod, 'mapped', FOREVER, { ...options, mounts });
    const script = `cat /data/secret /fixed/secret; stat -c %u:%g /data/secret /image/bin/busybox
      touch /data/root && touch /data/app && chown 1000:1001 /data/app && stat -c %u:%g /data/app; touch /fixed/no 2>&1`;
    const { stdout } = await pods.sh(daemon, id, script);
    assert.match(stdout, /^of root\nof root\n0:0\n0:0\n1000:1001\ntouch: .*Read-only file system\n$/);
    const owners = await Promise.all(['root', 'app'].map((name) => stat(join(data, name))));
    assert.deepEqual(
      owners.map(({ uid, gid }) => [uid, gid]),
      [
        [0, 0],
        [1000, 1001],
      ],
    );
    const half = [{ container_path: '/data', host_path: data, uidMappings: mapping }];
    await assert.rejects(pods.create(pod, 'half', FOREVER, { ...options, mounts: half }), { code: 3 });
  });

  it('mappings that make no sense are refused', async () => {
    const ids = (container_id: number, length: number, host_id = 1000) => ({ container_id, host_id, length });
    const good = [ids(0, 10)];
    const bad: NamespaceOption[] = [
      { userns_options: { mode: 'POD', uids: [], gids: good } },
      { userns_options: { mode: 'POD', uids: good, gids: [ids(0, 5), ids(5, 5)] } },
      { userns_options: { mode: 'POD', uids: [ids(1, 10)], gids: good } },
      { userns_options: { mode: 'POD', uids: [ids(0, 0)], gids: good } },
      { userns_options: { mode: 'POD', uids: [ids(0, 4_294_967_295, 4_294_967_295)], gids: good } },
      { userns_options: { mode: 'CONTAINER' } },
      { userns_options: { mode: 'TARGET' } },
      { userns_options: { mode: 'NODE', uids: good } },
    ];
    for (const options of bad)
      await assert.rejects(pods.runPod(daemon, 'bad', inNamespaces(options)), { code: 3 }, JSON.stringify(options));
  });

  it('a container opens the devices that every container has, those it asks for, and no others', async () => {
    const pod = await pods.runPod(daemon, 'devices');
    const usual = await pods.createAndStart(pod, 'usual', FOREVER);
    const fuse = { container_path: '/dev/fuse', host_path: '/dev/fuse', permissions: 'rwm' };
    const more = await pods.createAndStart(pod, 'more', FOREVER, { devices: [fuse] });
    const all = await pods.createAndStart(pod, 'all', FOREVER, { linux: { security_context: { privileged: true } } });
    const everywhere = 'head -c 1 /dev/zero /dev/urandom /dev/full >/dev/null && : >/dev/ptmx';
    const scratchDisk = 'mknod /disk b 8 0 && head -c 1 /disk';
    for (const id of [usual, more, all]) assert.equal((await pods.sh(daemon, id, everywhere)).exitCode, 0);
    for (const id of [usual, more]) {
      const refused = await pods.sh(daemon, id, scratchDisk);
      assert.match(refused.stderr, /\/disk: Operation not permitted/);
    }
    assert.equal((await pods.sh(daemon, all, scratchDisk)).exitCode, 0);
    const open = 'mknod /fuse c 10 229; : </fuse';
    assert.match((await pods.sh(daemon, usual, open)).stderr, /Operation not permitted/);
    assert.equal((await pods.sh(daemon, more, ': </dev/fuse')).exitCode, 0);
    // the first process, too, not only what is executed beside it
    const command = ['sh', '-c', `${scratchDisk} 2>/dev/null || exit 7`];
    const first = await pods.createAndStart(pod, 'first', command);
    assert.equal((await pods.waitForState(daemon, first, 'CONTAINER_EXITED')).exit_code, 7);
  });

  it('the default seccomp profile refuses what unconfined allows', async () => {
    const pod = await pods.runPod(daemon, 'seccomp');
    const withProfile = (profile_type: 'RuntimeDefault' | 'Unconfined') => ({
      linux: { security_context: { seccomp: { profile_type } } },
    });
    const confined = await pods.createAndStart(pod, 'confined', FOREVER, withProfile('RuntimeDefault'));
    const free = await pods.createAndStart(pod, 'free', FOREVER, withProfile('Unconfined'));
    const refused = await pods.sh(daemon, confined, 'unshare -U true');
    assert.match(refused.stderr, /Operation not permitted/);
    assert.equal((await pods.sh(daemon, free, 'unshare -U true')).exitCode, 0);
    const mode = await pods.sh(
      daemon,
      confined,
      'grep Seccomp: /proc/1/status; ls / >/dev/null && wget -qO- 127.0.0.1 2>&1',
    );
    assert.match(mode.stdout, /Seccomp:\s2[\s\S]*refused/, 'threads, files and sockets work');
  });
});
