/** The SSH gateway of a real daemon, and the SFTP server in its VMs. OpenSSH's clients: npm run test:streaming. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Client } from 'ssh2';
import { createAndStart, runPod, sh, type TestPod } from '../support/pods.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import { countFds, processesOf } from '../support/resources.ts';
import { login, makeKey, run } from '../support/ssh/gateway.ts';
import { openSftp, type Sftp } from '../support/ssh/sftp.ts';
import { eventually } from '../support/steps.ts';

const SLEEPS = 'ps | grep -q "[s]leep 98765"';
const key = makeKey();
const asApp = { linux: { security_context: { run_as_user: { value: '1000' } } } };

const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('ssh into containers', { skip, timeout: 600_000 }, () => {
  let daemon: TestDaemon;
  let pod: TestPod;
  let box: string;
  let port: number;

  before(async () => {
    daemon = await startTestDaemon({
      config: { ssh: { enabled: true, vm_access: true, port: 20_000 + (process.pid % 10_000) } },
    });
    ({ port } = daemon.config.ssh);
    await mkdir(join(daemon.config.root, 'ssh'), { recursive: true });
    await appendFile(join(daemon.config.root, 'ssh/authorized_keys'), `${key.publicKey}\n`, { mode: 0o600 });
    pod = await runPod(daemon, 'web');
    box = await createAndStart(pod, 'box', ['sleep', '100000']);
    await createAndStart(pod, 'app', ['sleep', '100000'], asApp);
  });
  after(() => daemon[Symbol.asyncDispose]());

  const enter = (username: string): Promise<Client> => login({ port, username, privateKey: key.privateKey });

  const withSftp = async (username: string, body: (sftp: Sftp) => Promise<void>): Promise<void> => {
    const client = await enter(username);
    try {
      await body(await openSftp(client));
    } finally {
      client.end();
    }
  };

  it('runs commands by a container name and by a prefix of its id', async () => {
    for (const name of ['box.web.default', box.slice(0, 8)]) {
      const client = await enter(name);
      const { stdout, stderr, code } = await run(client, 'hostname; echo err >&2; exit 42');
      assert.deepEqual([stdout, stderr, code], ['web\n', 'err\n', 42]);
      client.end();
    }
    const client = await enter('web.default');
    assert.match((await run(client, 'true')).stderr, /can mean: (app|box)\.web\.default .*(app|box)\.web\.default/);
    client.end();
  });

  it('tells of the signal that killed a command', async () => {
    const client = await enter('box.web.default');
    assert.equal((await run(client, 'kill -KILL $$')).signal, 'SIGKILL');
    client.end();
  });

  it('kills what a client leaves behind', async () => {
    const client = await enter('box.web.default');
    const answer = run(client, 'echo $$; exec sleep 98765');
    answer.catch(() => undefined);
    await eventually(async () => assert.equal((await sh(daemon, box, SLEEPS)).exitCode, 0));
    client.destroy();
    await eventually(async () => assert.notEqual((await sh(daemon, box, SLEEPS)).exitCode, 0));
  });

  it('moves files in a container that has no sftp-server, as its user', async () => {
    await withSftp('app.web.default', async (sftp) => {
      assert.equal(await sftp.realpath('.'), '/home/app');
      await sftp.writeFile('mine', 'text\n');
      assert.equal(await sftp.readFile('/home/app/mine'), 'text\n');
      const { uid, gid, mode } = await sftp.stat('mine');
      assert.deepEqual([uid, gid, mode & 0o777], [1000, 1000, 0o666 & ~0o022]);
      await assert.rejects(sftp.writeFile('/etc/passwd', 'x'), { code: 3 });
      await assert.rejects(sftp.chown('mine', 0, 0), { code: 3 });
      await assert.rejects(sftp.readdir('/root/secret'), { code: 2 });
    });
    await withSftp('box.web.default', async (sftp) => {
      await sftp.writeFile('/root/file', 'text\n');
      await sftp.chown('/root/file', 1000, 1000);
      assert.equal((await sh(daemon, box, 'stat -c %u /root/file; cat /root/file')).stdout, '1000\ntext\n');
    });
  });

  it('stays in the root of the container, whatever leads out of it', async () => {
    const { exitCode } = await sh(
      daemon,
      box,
      'ln -s ../../../../../.. /tmp/up; ln -s /etc/passwd /tmp/abs; ln -s /proc/1/root /tmp/init; mkfifo /tmp/pipe',
    );
    assert.equal(exitCode, 0);
    await withSftp('box.web.default', async (sftp) => {
      for (const way of ['/tmp/up', '/tmp/up/tmp/up/..', '/../..'])
        assert.match(await sftp.readFile(`${way}/etc/passwd`), /^app:x:1000/m, way);
      assert.match(await sftp.readFile('/tmp/abs'), /^app:x:1000/m);
      assert.equal(await sftp.realpath('/tmp/up'), '/');
      await assert.rejects(sftp.readdir('/run/caisson'), { code: 2 });
      // its rights are those that files need, not those over processes
      await assert.rejects(sftp.readFile('/tmp/init/etc/passwd'), { code: 3 });
      // it is not of the container's pid namespace, so this leads nowhere
      await assert.rejects(sftp.readdir('/proc/self/fd'), { code: 2 });
      await assert.rejects(sftp.readFile('/tmp/pipe'), /no regular file/);
    });
  });

  it('ends sessions with their container, and leaves the others alone', async () => {
    const id = await createAndStart(pod, 'brief', ['sleep', '100000']);
    const client = await enter('brief.web.default');
    const files = await openSftp(client);
    const answer = run(client, 'exec sleep 98765');
    assert.equal(await files.realpath('/'), '/');
    await eventually(async () => assert.equal((await sh(daemon, id, SLEEPS)).exitCode, 0));
    await daemon.cri.runtime.StopContainer({ container_id: id, timeout: '0' });
    await files.closed;
    assert.equal((await answer).signal, 'SIGKILL');
    assert.match((await run(client, 'true')).stderr, /nothing of the name "brief.web.default" runs/);
    client.end();
    await daemon.cri.runtime.RemoveContainer({ container_id: id });
    const other = await enter('box.web.default');
    assert.equal((await run(other, 'true')).code, 0);
    other.end();
  });

  it('works in a user namespace with its ids', async () => {
    const mapping = [{ host_id: 100_000, container_id: 0, length: 65_536 }];
    const options = { userns_options: { mode: 'POD' as const, uids: mapping, gids: mapping } };
    const inNamespace = await runPod(daemon, 'mapped', { linux: { security_context: { namespace_options: options } } });
    const linux = { security_context: { namespace_options: options } };
    const id = await createAndStart(inNamespace, 'box', ['sleep', '100000'], { linux });
    await withSftp('mapped.default', async (sftp) => {
      await sftp.writeFile('/root/file', 'text\n');
      const { uid, gid } = await sftp.stat('/root/file');
      assert.deepEqual([uid, gid], [0, 0]);
      await sftp.chown('/root/file', 1000, 1000);
      assert.equal((await sh(daemon, id, 'stat -c %u:%g /root/file')).stdout, '1000:1000\n');
    });
  });

  it('gives a shell in the VM itself, where that is configured, and leaves no container of it', async () => {
    const client = await enter('vm:web.default');
    const { stdout, stderr, code } = await run(
      client,
      'cat /proc/1/comm; ls /run/caisson/containers | wc -l; id -u; exit 4',
    );
    assert.equal(stderr, '');
    // the pod's two, and what this runs in
    assert.match(stdout, /^(node|MainThread|init)\S*\n3\n0\n$/);
    assert.equal(code, 4);
    assert.equal((await run(client, 'ls /run/caisson/containers | wc -l')).stdout, '3\n');
    client.end();
  });

  it('leaves no server and no descriptor behind', async () => {
    const servers = async (): Promise<number> => {
      // they are processes of the VM: what shows from here is that a ninth session is possible
      const clients = await Promise.all(Array.from({ length: 2 }, () => enter('box.web.default')));
      for (const client of clients) await openSftp(client);
      for (const client of clients) client.destroy();
      return clients.length;
    };
    await servers();
    const held = await countFds(daemon);
    for (let i = 0; i < 6; i++) await servers();
    await eventually(async () => assert.ok((await countFds(daemon)) <= held + 2));
  });

  it('ends sessions with an error when the VM dies', async () => {
    const client = await enter('box.web.default');
    const answer = run(client, 'echo ready; exec sleep 98765');
    const files = await openSftp(client);
    await eventually(async () => assert.equal((await sh(daemon, box, SLEEPS)).exitCode, 0));
    const closed = once(client, 'close');
    for (const { pid, name } of await processesOf(daemon))
      if (name.startsWith('qemu-system')) process.kill(pid, 'SIGKILL');
    const { stderr, code } = await answer;
    assert.match(stderr, /caisson: .*(VM|agent)/);
    assert.equal(code, 255);
    await files.closed;
    // the connection may be lost a moment before QEMU's own end is heard of
    await eventually(async () =>
      assert.match((await run(client, 'true')).stderr, /nothing of the name "box.web.default" runs/),
    );
    client.end();
    await closed;
  });
});
