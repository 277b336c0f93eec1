/** The SSH gateway over processes of this machine, by ssh2's client. OpenSSH's own clients: npm run test:streaming. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { run, startGateway, WEB } from '../support/ssh/gateway.ts';
import { fakeStreams } from '../support/streaming/fake-streams.ts';
import { countTcp, deafPort, listenTcp } from '../support/streaming/tcp.ts';

import { ask, open, textOf } from '../support/ssh/channels.ts';
const MIB = 1024 * 1024;
// each test by itself is quick; a suite has to end all the same
const LIMIT = { timeout: 300_000 };
const BOTH_WAYS = 'f=$(mktemp); cat >$f; cat $f & cat $f >&2; wait; rm $f';

describe('a command by ssh', LIMIT, () => {
  it('has output on both streams, and its exact exit code', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    assert.deepEqual(await run(client, 'echo out; echo err >&2; exit 42'), {
      stdout: 'out\n',
      stderr: 'err\n',
      code: 42,
      signal: undefined,
    });
    client.end();
  });

  it('tells of the signal that killed it', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const { code, signal } = await run(client, 'kill -TERM $$; sleep 10');
    assert.deepEqual([code, signal], [null, 'SIGTERM']);
    client.end();
  });

  it('gets every byte there and back, on both streams at once', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const bytes = randomBytes(3 * MIB).toString('base64');
    const { stdout, stderr, code } = await run(client, BOTH_WAYS, bytes);
    assert.deepEqual([stdout === bytes, stderr === bytes, code], [true, true, 0]);
    client.end();
  });

  it('has the variables that are allowed, and no others', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const channel = await open((done) =>
      client.exec('echo "$LC_X $LD_PRELOAD"', { env: { LC_X: 'yes', LD_PRELOAD: 'no' } }, done),
    );
    assert.equal(await textOf(channel), 'yes \n');
    client.end();
  });

  it('without sh is tried as plain words, and is 127 when it is not there', async () => {
    using streams = fakeStreams();
    const { execStream } = streams;
    const noShell: typeof execStream = (id, request, signal) =>
      execStream(id, request.command[0] === 'sh' ? { ...request, command: ['/no/sh'] } : request, signal);
    await using gateway = await startGateway({ streams: { ...streams, execStream: noShell } });
    const client = await gateway.client();
    assert.equal((await run(client, 'echo a b')).stdout, 'a b\n');
    const { stderr, code } = await run(client, 'echo $HOME');
    assert.match(stderr, /^caisson: executable file \/no\/sh not found/);
    assert.equal(code, 127);
    client.end();
  });

  it('gets the signals and the sizes that a client sends', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const command = 'trap "echo got it; exit 3" USR1; echo ready; while :; do sleep 0.05; done';
    const channel = await open((done) => client.exec(command, { pty: { cols: 80, rows: 24 } }, done));
    await once(channel, 'data');
    channel.setWindow(43, 132, 0, 0);
    channel.signal('USR1');
    const [code] = await once(channel, 'exit');
    assert.equal(code, 3);
    assert.deepEqual(streams.sizes.at(-1), { columns: 132, rows: 43 });
    client.end();
  });

  it('ends when its client leaves, also one that does not read it', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const channel = await open((done) => client.exec('yes', done));
    await once(channel, 'readable');
    assert.equal(streams.sessions.size, 1);
    client.destroy();
    await streams.settled(0);
  });

  it('ends when its channel is closed, though it does not read what was sent', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const channel = await open((done) => client.exec('sleep 1000', done));
    await streams.settled(1);
    channel.write(randomBytes(MIB));
    channel.close();
    await streams.settled(0);
    assert.equal((await run(client, 'echo still here')).stdout, 'still here\n');
    client.end();
  });

  it('fails when its VM dies', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const answer = run(client, 'sleep 1000');
    await streams.settled(1);
    streams.killVm();
    const { stderr, code } = await answer;
    assert.match(stderr, /the VM of the pod has died/);
    assert.equal(code, 255);
    client.end();
  });

  it('is written down with key, target, command, bytes and result', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    await run(client, 'cat; exit 7', 'four');
    const { fields } = await gateway.logged('ssh channel ended');
    const { ms, key, ...rest } = fields;
    assert.match(String(key), /^SHA256:[\w+/]{43}$/);
    assert.equal(typeof ms, 'number');
    assert.deepEqual(rest, {
      client: '127.0.0.1',
      keyComment: 'somebody',
      channel: 'exec',
      target: 'app.web.default',
      tty: false,
      command: 'cat; exit 7',
      containerId: 'box',
      sandboxId: WEB.id,
      code: 7,
      signal: 0,
      bytesIn: 4,
      bytesOut: 4,
    });
    client.end();
  });
});

describe("a VM's own root", LIMIT, () => {
  it('is closed unless configured', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client({ username: 'vm:web.default' });
    const { stderr, code } = await run(client, 'true');
    assert.match(stderr, /the VMs themselves are closed/);
    assert.equal(code, 255);
    client.end();
  });

  it('is entered by the name of the pod, which a key may leave out', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams, vmAccess: true, keyOptions: 'pods="default/web" ' });
    const client = await gateway.client({ username: 'vm:web.default' });
    assert.equal((await run(client, 'echo $VM')).stdout, `${WEB.id}\n`);
    client.end();
    const other = await gateway.client({ username: 'vm:db.prod' });
    assert.match((await run(other, 'true')).stderr, /nothing of the name "db.prod" runs that this key may enter/);
    other.end();
  });
});

describe('a port by ssh', LIMIT, () => {
  it('is one of the pod, with half-close', async () => {
    using streams = fakeStreams();
    await using listener = await listenTcp(countTcp);
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    for (const host of ['localhost', '127.0.0.1', '::1', WEB.ips?.[0] ?? ''])
      assert.equal(await ask(client, host, listener.port, randomBytes(MIB)), `${MIB} bytes`);
    await assert.rejects(ask(client, 'example.org', listener.port, ''), /open fail/i);
    await assert.rejects(ask(client, 'localhost', await deafPort(), ''), /open fail/i);
    assert.equal(streams.forwarded.size, 0);
    client.end();
  });

  it('takes what a client still has to say when the server has said all', async () => {
    using streams = fakeStreams();
    const { promise: heard, resolve } = Promise.withResolvers<number>();
    await using listener = await listenTcp((socket) => {
      let bytes = 0;
      socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
      socket.on('end', () => resolve(bytes));
      socket.end('bye');
    });
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const channel = await open((done) => client.forwardOut('127.0.0.1', 1, 'localhost', listener.port, done));
    channel.resume();
    await once(channel, 'end');
    channel.end(randomBytes(MIB));
    assert.equal(await heard, MIB);
    client.end();
  });

  it('is closed with its client, though the server does not read', async () => {
    using streams = fakeStreams();
    await using listener = await listenTcp((socket) => void socket.pause());
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const channel = await open((done) => client.forwardOut('127.0.0.1', 1, 'localhost', listener.port, done));
    channel.write(randomBytes(MIB));
    const gone = [...streams.forwarded].map((socket) => once(socket, 'close'));
    assert.equal(gone.length, 1);
    channel.close();
    await Promise.all(gone);
    await gateway.logged('ssh channel ended');
    client.end();
  });
});

describe('the host key', LIMIT, () => {
  it('is kept, for its owner alone', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const path = join(gateway.directory, 'ssh/host_ed25519_key');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const { hostKey } = await import('../../src/ssh/host-key.ts');
    const before = await readFile(path, 'utf8');
    assert.equal((await hostKey(join(gateway.directory, 'ssh'))).publicKey, gateway.gateway.hostKey);
    assert.equal(await readFile(path, 'utf8'), before);
    await writeFile(path, 'nonsense');
    await assert.rejects(hostKey(join(gateway.directory, 'ssh')), /is not an ed25519 key/);
  });
});
