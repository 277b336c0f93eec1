/** The SSH gateway over processes of this machine, by ssh2's client. OpenSSH's own clients: npm run test:streaming. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { ClientChannel } from 'ssh2';
import { changeMessages } from '../fuzz/ssh-client.ts';
import { makeKey, rawConnection, run, startGateway, WEB } from '../support/ssh/gateway.ts';
import { echoStreams } from '../support/streaming/echo-streams.ts';
import { fakeStreams } from '../support/streaming/fake-streams.ts';
import { countingLogger } from '../support/streaming/server.ts';
import { countTcp, deafPort, listenTcp } from '../support/streaming/tcp.ts';

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

describe('an ssh client', LIMIT, () => {
  it('without a key of the file is refused, and cut off after some tries', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    await assert.rejects(gateway.client({ privateKey: makeKey().privateKey }), /authentication methods failed/);
    await assert.rejects(gateway.client({ privateKey: '', password: 'x', tryKeyboard: true }));
    const keys = Array.from({ length: 4 }, makeKey);
    let tried = 0;
    const authHandler = keys.map(({ privateKey }) => {
      return { type: 'publickey' as const, username: 'x', key: privateKey };
    });
    const counted = {
      authHandler: (_left: unknown, _partial: unknown, next: (method: object | false) => void) =>
        next(authHandler[tried++] ?? false),
    };
    await assert.rejects(gateway.client(counted as object));
    assert.equal(tried, 3);
    assert.equal(
      (await gateway.logged('closing the connection of an ssh client: it has tried too many keys')).level,
      'warn',
    );
  });

  it('that is refused is written down', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const { privateKey } = makeKey();
    await assert.rejects(gateway.client({ privateKey, username: 'app.web.default' }));
    const { level, fields } = await gateway.logged('ssh client refused');
    assert.deepEqual([level, fields], ['info', { client: '127.0.0.1', user: 'app.web.default', tries: 1 }]);
  });

  it('whose key is taken out of the file is not let in again', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    (await gateway.client()).end();
    await writeFile(gateway.keyFile, '# nobody\n');
    await assert.rejects(gateway.client());
  });

  it('is not let in by a file that others can write', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    await chmod(gateway.keyFile, 0o666);
    await assert.rejects(gateway.client());
    const { fields } = await gateway.logged('nobody can log in by SSH: the file of keys cannot be used');
    assert.match(String(fields['err']), /can be written by others/);
  });

  it('that says nothing is cut off in time', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams, limits: { loginGraceMs: 50 } });
    assert.equal(await rawConnection(gateway.socketPath, ''), '');
    assert.match(await rawConnection(gateway.socketPath, 'SSH-2.0-x\r\n'), /^SSH-2\.0-caisson/);
    assert.match(await rawConnection(gateway.socketPath, 'nonsense\r\n'), /^(SSH-2\.0-caisson|$)/);
  });

  it('is told what its name may mean', async () => {
    using streams = fakeStreams();
    const pods = [{ ...WEB, containers: { app: 'box', sidecar: 'c0de'.repeat(16) } }];
    await using gateway = await startGateway({ streams, pods });
    const client = await gateway.client({ username: 'web.default' });
    const { stderr, code } = await run(client, 'true');
    assert.equal(
      stderr,
      'caisson: "web.default" can mean: app.web.default (box), sidecar.web.default (c0dec0dec0dec)\n',
    );
    assert.equal(code, 255);
    client.end();
  });

  it('can say its target in a line before the protocol, on the unix socket', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const sock = connect(gateway.socketPath);
    sock.write('CAISSON-TARGET web.default\n');
    const client = await gateway.client({ sock, username: 'root' });
    assert.equal((await run(client, 'echo $((6 * 7))')).stdout, '42\n');
    client.end();
  });

  it('has no more channels and connections than there may be', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams, limits: { channelsPerConnection: 2, connections: 1 } });
    const client = await gateway.client();
    const open2 = [run(client, 'cat'), run(client, 'cat')];
    await Promise.all(open2);
    const held = await Promise.all([1, 2].map(() => open((done) => client.exec('sleep 100', done))));
    await assert.rejects(run(client, 'true'), /open failed|Channel open failure/i);
    await assert.rejects(gateway.client());
    for (const channel of held) channel.close();
    await streams.settled(0);
    assert.equal((await run(client, 'echo again')).stdout, 'again\n');
    client.end();
  });

  it('cannot send more than a channel takes', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const closed = new Promise<void>((resolve) => client.on('close', () => resolve()));
    const channel = await open((done) => client.exec('sleep 1000', done));
    // the window is the client's own to respect
    Object.assign((channel as unknown as { outgoing: object }).outgoing, { window: 2 ** 31 });
    // what comes to a window of exactly 0 is dropped by ssh2; it takes the rest
    for (let i = 0; i < 300; i++) channel.write(randomBytes(32 * 1024 - 1));
    await closed;
    await streams.settled(0);
    assert.deepEqual(
      (await gateway.logged('closing the connection of an ssh client')).fields['why'],
      'it has sent more than a channel takes',
    );
  });

  it('that takes packets of no bytes is cut off, instead of being written to for ever', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const closed = new Promise<void>((resolve) => client.on('close', () => resolve()));
    changeMessages(client, (message) => {
      const CHANNEL_OPEN = 90;
      // at the end of what opens a session
      if (message[0] === CHANNEL_OPEN) message.writeUInt32BE(0, 1 + 4 + 'session'.length + 8);
    });
    client.exec('echo', () => undefined);
    await closed;
    await streams.settled(0);
    const { fields } = await gateway.logged('closing the connection of an ssh client');
    assert.equal(fields['why'], 'it takes too small packets only');
  });

  it('whose messages are cut short harms nobody else', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    changeMessages(client, (message) => {
      // the length of the destination's name, behind `direct-tcpip`
      if (message.includes('direct-tcpip')) message.writeUInt32BE(2 ** 31, 1 + 4 + 'direct-tcpip'.length + 12);
    });
    client.forwardOut('127.0.0.1', 1, 'localhost', 80, () => undefined);
    await gateway.logged('ssh channel ended');
    client.destroy();
    const other = await gateway.client();
    assert.equal((await run(other, 'echo still here')).stdout, 'still here\n');
    other.end();
  });

  it('cannot make the gateway hold what it does not read', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams });
    const client = await gateway.client();
    const before = process.memoryUsage().external + process.memoryUsage().arrayBuffers;
    const channel = await open((done) => client.exec('yes', done));
    // as from a client whose window is as large as windows can be
    const { _client: inner, outgoing } = channel as unknown as {
      _client: { _protocol: { channelWindowAdjust(id: number, by: number): void } };
      outgoing: { id: number };
    };
    inner._protocol.channelWindowAdjust(outgoing.id, 2 ** 31);
    (client as unknown as { _sock: { pause(): void } })._sock.pause();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const after = process.memoryUsage().external + process.memoryUsage().arrayBuffers;
    assert.ok(after - before < 32 * MIB, `${(after - before) / MIB} MiB`);
    client.destroy();
    await streams.settled(0);
  });
});

describe('many ssh clients', LIMIT, () => {
  it('that come and go, or are lost, leave nothing', async () => {
    const streams = echoStreams();
    const { log } = countingLogger();
    await using gateway = await startGateway({ streams, log });
    const cycle = async (i: number): Promise<void> => {
      const client = await gateway.client();
      const channel = await open((done) => client.exec('echo', done));
      if (i % 2 === 0) await ask(client, 'localhost', 80, 'x');
      const closed = once(client, 'close');
      if (i % 3 === 0) client.destroy();
      else {
        channel.end();
        client.end();
      }
      await closed;
    };
    const held = async () => {
      setFlagsFromString('--expose-gc');
      const gc = runInNewContext('gc') as () => void;
      for (let i = 0; i < 200 && streams.open() > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
      gc();
      const { heapUsed, external } = process.memoryUsage();
      return { fds: (await readdir('/proc/self/fd')).length, open: streams.open(), bytes: heapUsed + external };
    };
    for (let i = 0; i < 100; i++) await cycle(i);
    const before = await held();
    for (let i = 0; i < 1000; i++) await cycle(i);
    const after = await held();
    assert.deepEqual([after.fds, after.open], [before.fds, 0]);
    // a client alone that were not let go would be 40 KiB
    assert.ok(after.bytes - before.bytes < 8 * MIB, `${(after.bytes - before.bytes) / MIB} MiB more`);
  });
});

describe('options of a key', LIMIT, () => {
  it('no-pty: no terminal', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams, keyOptions: 'no-pty ' });
    const client = await gateway.client();
    await assert.rejects(
      open((done) => client.exec('true', { pty: true }, done)),
      /pseudo-terminal|pty/i,
    );
    client.end();
  });

  it('pods: what it may not enter is not there', async () => {
    using streams = fakeStreams();
    const pods = [WEB, { name: 'db', namespace: 'prod', id: 'bb22'.repeat(16), containers: { pg: 'box' } }];
    await using gateway = await startGateway({ streams, pods, keyOptions: 'pods="default/*" ' });
    const client = await gateway.client({ username: 'db.prod' });
    const { stderr, code } = await run(client, 'true');
    assert.match(stderr, /nothing of the name "db.prod" runs that this key may enter/);
    assert.equal(code, 255);
    client.end();
    const other = await gateway.client({ username: 'web.default' });
    assert.equal((await run(other, 'true')).code, 0);
    other.end();
  });

  it('permitopen: one port and no other', async () => {
    using streams = fakeStreams();
    await using listener = await listenTcp(countTcp);
    await using gateway = await startGateway({ streams, keyOptions: `permitopen="localhost:${listener.port}" ` });
    const client = await gateway.client();
    assert.equal(await ask(client, 'localhost', listener.port, 'four'), '4 bytes');
    await assert.rejects(ask(client, 'localhost', listener.port + 1, ''), /open fail/i);
    client.end();
  });

  it('that nobody knows: the line is refused and said', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams, keyOptions: 'command="true" ' });
    await assert.rejects(gateway.client());
    const { fields } = await gateway.logged('a line of the file of SSH keys is refused');
    assert.deepEqual([fields['line'], fields['why']], [1, 'unknown option "command"']);
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

/** With a callback that ssh2 calls. */
function open(
  start: (done: (error: Error | undefined, channel: ClientChannel) => void) => void,
): Promise<ClientChannel> {
  return new Promise((resolve, reject) => start((error, channel) => (error ? reject(error) : resolve(channel))));
}

async function textOf(channel: ClientChannel): Promise<string> {
  let text = '';
  channel.on('data', (chunk: Buffer) => (text += String(chunk)));
  await once(channel, 'close');
  return text;
}

/** Sends, ends its side, and returns the answer. */
async function ask(
  client: Awaited<ReturnType<Awaited<ReturnType<typeof startGateway>>['client']>>,
  host: string,
  port: number,
  request: string | Buffer,
): Promise<string> {
  const channel = await open((done) => client.forwardOut('127.0.0.1', 1, host, port, done));
  channel.end(request);
  return textOf(channel);
}
