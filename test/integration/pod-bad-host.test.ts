import assert from 'node:assert/strict';
import { cp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type ConfigOverrides, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { assertLeavesNothing, countResources } from '../support/resources.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('hosts that cannot run VMs', { skip }, () => {
  let things: string;
  before(async () => {
    things = await temporaryDirectory();
  });
  after(() => rm(things, { recursive: true }));

  /** A pod's start with this configuration fails so, and leaves nothing behind. */
  const assertFails = async (vm: ConfigOverrides['vm'], code: status, details: RegExp) => {
    await using daemon = await startTestDaemon({ config: { vm: { template: false, ...vm } }, images: [] });
    const held = await countResources(daemon);
    await assert.rejects(pods.runPod(daemon, 'bad'), { code, details });
    assert.deepEqual((await daemon.cri.runtime.ListPodSandbox()).items, []);
    await assertLeavesNothing(daemon, held);
  };
  const script = async (name: string, text: string) => {
    await writeFile(join(things, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    return join(things, name);
  };

  it('says that QEMU is missing', () =>
    assertFails({ qemu: '/no/such/qemu' }, status.FAILED_PRECONDITION, /pod default\/bad .*\/no\/such\/qemu/));

  it('says that the vsock back end is missing', () =>
    assertFails(
      { vhost_device_vsock: '/no/such/vsock', transport: 'vhost-user-vsock' },
      status.FAILED_PRECONDITION,
      /\/no\/such\/vsock/,
    ));

  it('says that the guest image is missing', () =>
    assertFails({ guest_image: '/no/such/image' }, status.FAILED_PRECONDITION, /no guest image in \/no\/such\/image/));

  it('repeats the last words of a QEMU that ends at once', async () => {
    const qemu = await script('dying', 'echo "out of luck" >&2; exit 3');
    await assertFails({ qemu }, status.UNAVAILABLE, /ended.*exit code 3.*out of luck/);
  });

  it('kills a QEMU that does nothing', async () => {
    const qemu = await script('idle', 'exec sleep 1000');
    await assertFails({ qemu, boot_timeout_s: 2 }, status.UNAVAILABLE, /did not come up within 2 s/);
  });

  it('undoes a boot that the caller gives up', async () => {
    await using daemon = await startTestDaemon({ config: { vm: { template: false } }, images: [] });
    const held = await countResources(daemon);
    for (const afterMs of [150, 1000, 3000]) {
      const config = pods.sandboxConfig(daemon, 'given-up');
      const given = daemon.cri.runtime.RunPodSandbox({ config }, { deadlineMs: afterMs });
      await assert.rejects(given, { code: status.DEADLINE_EXCEEDED });
      await assertLeavesNothing(daemon, held);
      assert.deepEqual((await daemon.cri.runtime.ListPodSandbox()).items, []);
    }
  });

  it("repeats a guest's last words when it does not come up", async () => {
    const image = await guestImage(things);
    const initramfs = join(image, 'initramfs');
    await writeFile(initramfs, Buffer.alloc(4096, 'x'));
    await assertFails({ guest_image: image }, status.UNAVAILABLE, /ended.*guest: .*Kernel panic/s);
    await hangingInitramfs(things, initramfs);
    await assertFails(
      { guest_image: image, boot_timeout_s: 8 },
      status.UNAVAILABLE,
      /within 8 s.*guest: .*I shall not come up/s,
    );
  });
});

/** A guest image like the real one, whose files may be replaced. */
async function guestImage(directory: string): Promise<string> {
  const real = '/var/lib/caisson/guest';
  const image = join(directory, 'guest');
  await mkdir(image, { recursive: true });
  await cp(join(real, 'manifest.json'), join(image, 'manifest.json'));
  for (const name of ['kernel', 'root.erofs']) await symlink(join(real, name), join(image, name));
  return image;
}

async function hangingInitramfs(directory: string, output: string): Promise<void> {
  const tree = join(directory, 'tree');
  await mkdir(join(tree, 'bin'), { recursive: true });
  await mkdir(join(tree, 'dev'));
  await cp('/bin/busybox', join(tree, 'bin/busybox'));
  const init =
    '#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\necho "I shall not come up" > /dev/hvc0\nexec /bin/busybox sleep 10000\n';
  await writeFile(join(tree, 'init'), init, { mode: 0o755 });
  await run('sh', ['-c', 'cd "$1" && find . | cpio --quiet -o -H newc > "$2"', 'sh', tree, output]);
}

describe('a full disk', { skip }, () => {
  let daemon: TestDaemon;
  let disk: string;
  /** Leaves `free` bytes. */
  const fill = async () => {
    await run('dd', ['if=/dev/zero', `of=${disk}/filler`, 'bs=64k'], { okCodes: [0, 1] });
    await run('dd', ['if=/dev/zero', `of=${disk}/filler2`, 'bs=512'], { okCodes: [0, 1] });
  };
  const empty = async () => {
    for (const name of ['filler', 'filler2']) await rm(join(disk, name), { force: true });
  };

  before(async () => {
    disk = await temporaryDirectory();
    await run('mount', ['-t', 'tmpfs', '-o', 'size=48m,mode=711', 'none', disk]);
    daemon = await startTestDaemon({ config: { root: join(disk, 'root'), storage: { scratch_size_mib: 64 } } });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await run('umount', [disk]);
    await rm(disk, { recursive: true });
  });

  it('refuses a pod and leaves nothing of it', async () => {
    const held = await countResources(daemon);
    await using _room = { [Symbol.asyncDispose]: empty };
    await fill();
    await assert.rejects(pods.runPod(daemon, 'full'), { code: status.RESOURCE_EXHAUSTED, details: /no space|full/ });
    await assertLeavesNothing(daemon, held);
  });

  it('costs a container its log, not its life', async () => {
    const pod = await pods.runPod(daemon, 'logless', { log_directory: join(disk, 'logs') });
    const script =
      'seq 1 10; while [ ! -e /go ]; do sleep 0.1; done; seq 1 200000; while [ -e /go ]; do sleep 0.1; done; echo end; exit 5';
    const id = await pods.createAndStart(pod, 'chatty', ['sh', '-c', script]);
    while ((await pods.readLog(pod, 'chatty.log')).length < 10) await sleep(50);
    await fill();
    await pods.sh(daemon, id, 'touch /go; sleep 2');
    await empty();
    await pods.sh(daemon, id, 'rm /go');
    const ended = await pods.waitForState(daemon, id, 'CONTAINER_EXITED', 30_000);
    assert.equal(ended.exit_code, 5);
    const lines = await pods.readLog(pod, 'chatty.log');
    assert.equal(lines.at(-1)?.text, 'end');
    assert.match(await readFile(join(daemon.dir, 'daemon.log'), 'utf8'), /output of a container is lost/);
    await daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });
  });
});
