/** Who may come in by ssh, and what a bad or a lost client does to others. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, readdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Client } from 'ssh2';
import { changeMessages } from '../fuzz/ssh-client.ts';
import { makeKey, rawConnection, run, startGateway, WEB } from '../support/ssh/gateway.ts';
import { echoStreams } from '../support/streaming/echo-streams.ts';
import { fakeStreams } from '../support/streaming/fake-streams.ts';
import { countingLogger } from '../support/streaming/server.ts';
import { countTcp, listenTcp } from '../support/streaming/tcp.ts';
import { ask, open } from '../support/ssh/channels.ts';

const MIB = 1024 * 1024;
// each test by itself is quick; a suite has to end all the same
const LIMIT = { timeout: 300_000 };

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

  it('has its share of the channels that all clients together may have', async () => {
    using streams = fakeStreams();
    await using gateway = await startGateway({ streams, limits: { channels: 3, channelsPerConnection: 2 } });
    const [first, second] = [await gateway.client(), await gateway.client()];
    const hold = (client: Client) => open((done) => client.exec('sleep 100', done));
    const held = [await hold(first), await hold(first), await hold(second)];
    await assert.rejects(hold(second), /open failed|Channel open failure/i);
    for (const channel of held) channel.close();
    await streams.settled(0);
    assert.equal((await run(second, 'echo again')).stdout, 'again\n');
    first.end();
    second.end();
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

  it('no-port-forwarding and restrict: no port at all', async () => {
    using streams = fakeStreams();
    await using listener = await listenTcp(countTcp);
    for (const keyOptions of ['no-port-forwarding ', 'restrict ']) {
      await using gateway = await startGateway({ streams, keyOptions });
      const client = await gateway.client();
      await assert.rejects(ask(client, 'localhost', listener.port, ''), /open fail/i);
      assert.equal((await run(client, 'true')).code, 0);
      const { fields } = await gateway.logged('ssh channel ended');
      assert.match(String(fields['outcome']), /this key may not forward ports/);
      client.end();
    }
  });

  it('pods: nor a port of it', async () => {
    using streams = fakeStreams();
    await using listener = await listenTcp(countTcp);
    await using gateway = await startGateway({ streams, keyOptions: 'pods="prod/*" ' });
    const client = await gateway.client({ username: 'web.default' });
    await assert.rejects(ask(client, 'localhost', listener.port, 'four'), /open fail/i);
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
