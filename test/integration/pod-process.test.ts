import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { busyboxImage } from '../../images/busybox.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const APP = 'caisson.test/app:latest';
const skip = process.getuid?.() === 0 ? false : 'needs root';

/** As busybox, with everything that an image can say about its containers. */
async function appImage() {
  const image = await busyboxImage(APP);
  const config = {
    Entrypoint: ['echo', 'entrypoint'],
    Cmd: ['image-argument'],
    User: 'app',
    WorkingDir: '/home/app',
    Env: ['FROM_IMAGE=yes', 'BOTH=image'],
  };
  return { ...image, config };
}

describe("a container's process", { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  const runtime = () => daemon.cri.runtime;
  /** Runs a container of the app image to its end; returns its standard output. */
  const output = async (name: string, overrides: Parameters<typeof pods.create>[3]) => {
    const id = await pods.createAndStart(pod, name, [], { image: { image: APP }, ...overrides });
    const { exit_code } = await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    const lines = await pods.readLog(pod, `${name}.log`);
    assert.equal(exit_code, 0, pods.textOf(lines, 'stderr'));
    return pods.textOf(lines);
  };

  before(async () => {
    daemon = await startTestDaemon({ images: [await busyboxImage(pods.BUSYBOX), await appImage()] });
    pod = await pods.runPod(daemon, 'process', { hostname: 'web-0' });
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('joins command and arguments as Kubernetes does', async () => {
    assert.equal(await output('ca-image', {}), 'entrypoint image-argument\n');
    assert.equal(await output('ca-args', { args: ['mine', 'two words'] }), 'entrypoint mine two words\n');
    assert.equal(await output('ca-command', { command: ['echo', 'replaced'] }), 'replaced\n');
    assert.equal(
      await output('ca-both', { command: ['echo', 'replaced'], args: ['$HOME', '"x"'] }),
      'replaced $HOME "x"\n',
    );
  });

  it('joins the environment of image and container, and works in the directory asked for', async () => {
    const print = ['sh', '-c', 'echo "$FROM_IMAGE $BOTH $OWN"; echo "$PATH" "$HOME" "$HOSTNAME"; pwd'];
    const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    const envs = [
      { key: 'BOTH', value: Buffer.from('container') },
      { key: 'OWN', value: Buffer.from('a=b\n"c" ☃') },
    ];
    assert.equal(
      await output('env', { command: print, envs }),
      `yes container a=b\n"c" ☃\n${path} /home/app web-0\n/home/app\n`,
    );
    assert.match(await output('cwd', { command: print, working_dir: '/usr/bin' }), /\n\/usr\/bin\n$/);
    assert.match(await output('cwd-new', { command: print, working_dir: '/not/there' }), /\n\/not\/there\n$/);
  });

  it('runs as the user of the image, by name and by id', async () => {
    const id = (security: object) => ({ command: ['id'], linux: { security_context: security } });
    assert.equal(
      await output('user-image', { command: ['id'] }),
      'uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n',
    );
    assert.equal(
      await output('user-root', id({ run_as_user: { value: '0' } })),
      'uid=0(root) gid=0(root) groups=0(root)\n',
    );
    assert.match(await output('user-name', id({ run_as_username: 'app' })), /^uid=1000\(app\) gid=1000\(app\)/);
    const ids = { run_as_user: { value: '4242' }, run_as_group: { value: '77' }, supplemental_groups: ['88', '99'] };
    assert.equal(await output('user-ids', id(ids)), 'uid=4242 gid=77 groups=77,88,99\n');
    const made = await pods.create(pod, 'user-status', ['id'], { linux: { security_context: ids } });
    const { user } = await pods.containerStatus(daemon, made);
    assert.deepEqual(user?.linux, { uid: '4242', gid: '77', supplemental_groups: ['77', '88', '99'] });
    await runtime().RemoveContainer({ container_id: made });
  });

  it('keeps the root file system from being written, if asked', async () => {
    const linux = { security_context: { readonly_rootfs: true } };
    const command = ['sh', '-c', 'touch /x /tmp/x; echo > /etc/passwd; touch /dev/shm/x && echo shm'];
    const id = await pods.createAndStart(pod, 'readonly', command, { linux });
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    const log = await pods.readLog(pod, 'readonly.log');
    assert.equal(pods.textOf(log), 'shm\n');
    assert.equal(pods.textOf(log, 'stderr').match(/Read-only file system/g)?.length, 3);
  });

  it('kills a container that ignores its stop signal when its time is over', async () => {
    const id = await pods.createAndStart(pod, 'deaf', [
      'sh',
      '-c',
      'trap "" TERM; echo up; while :; do sleep 0.1; done',
    ]);
    while (!pods.textOf(await pods.readLog(pod, 'deaf.log')).includes('up'));
    const started = performance.now();
    await runtime().StopContainer({ container_id: id, timeout: '2' });
    const took = performance.now() - started;
    assert.ok(took > 1900 && took < 10_000, `${took} ms`);
    assert.equal((await pods.containerStatus(daemon, id)).exit_code, 137);
  });

  it('logs a terminal', async () => {
    const id = await pods.createAndStart(
      pod,
      'tty',
      ['sh', '-c', 'test -t 0 && test -t 1 && echo terminal; tty; exit 5'],
      { tty: true, stdin: true },
    );
    const { exit_code } = await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    assert.equal(exit_code, 5);
    assert.equal(pods.textOf(await pods.readLog(pod, 'tty.log')), 'terminal\r\n/dev/pts/0\r\n');
  });
});
