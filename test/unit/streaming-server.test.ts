import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { openWebSocket } from '../../src/cli/streams/websocket.ts';
import { configSchema } from '../../src/config/schema.ts';
import { run } from '../../src/lib/exec.ts';
import { removeTree } from '../../src/lib/files.ts';
import { watchIdle } from '../../src/streaming/idle.ts';
import { Tokens } from '../../src/streaming/tokens.ts';
import { ChannelClient } from '../support/streaming/channel-client.ts';
import { CONTAINER } from '../support/streaming/fake-streams.ts';
import { startServer } from '../support/streaming/server.ts';
import { connectSpdy, upgrade } from '../support/streaming/spdy-client.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const V4 = ['v4.channel.k8s.io'];
const SPDY_UPGRADE = ['Connection: Upgrade', 'Upgrade: SPDY/3.1', 'X-Stream-Protocol-Version: v4.channel.k8s.io'];

describe('one-time tokens', () => {
  it('are good for one connection', async () => {
    await using server = await startServer();
    const url = server.exec(['cat']);
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/exec\/[\w-]{22}$/);
    const client = await connectSpdy(url, V4);
    await assert.rejects(connectSpdy(url, V4), /404 Not Found/);
    await assert.rejects(ChannelClient.connect(url, 'v5.channel.k8s.io'), /404/);
    client.socket.destroy();
  });

  it('are good for what they were made for only', async () => {
    await using server = await startServer();
    const url = server.exec(['cat']);
    const wrong = [
      url.replace('/exec/', '/attach/'),
      url.replace('/exec/', '/portforward/'),
      `${url}x`,
      `${url}/`,
      url.slice(0, -1),
      `${server.server.baseUrl}/exec/`,
      `${server.server.baseUrl}/`,
    ];
    for (const other of wrong) await assert.rejects(connectSpdy(other, V4), /404 Not Found/, other);
    (await connectSpdy(url, V4)).socket.destroy();
  });

  it('are not used up by a request that becomes no connection', async () => {
    await using server = await startServer();
    const url = server.exec(['cat']);
    await assert.rejects(connectSpdy(url, ['v9.channel.k8s.io']), /403 Forbidden/);
    await assert.rejects(connectSpdy(url, []), /400 Bad Request/);
    await assert.rejects(ChannelClient.connect(url, 'v9.channel.k8s.io'), /403/);
    for (const method of ['GET', 'POST']) {
      const { answer, socket } = await upgrade(url, ['X: y'], method);
      assert.match(answer, /400 Bad Request/);
      socket.destroy();
    }
    const { answer, socket } = await upgrade(url, SPDY_UPGRADE, 'PUT');
    assert.match(answer, /405 Method Not Allowed/);
    socket.destroy();
    const strange = await upgrade(url, ['Connection: Upgrade', 'Upgrade: h2c']);
    assert.match(strange.answer, /400 Bad Request/);
    strange.socket.destroy();
    const badKey = await upgrade(
      url,
      ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
      'GET',
    );
    assert.match(badKey.answer, /400 Bad Request/);
    badKey.socket.destroy();
    const good = await upgrade(url, SPDY_UPGRADE, 'GET');
    assert.match(good.answer, /101 Switching Protocols/);
    good.socket.destroy();
  });

  it('expire after a minute', async (t) => {
    await using server = await startServer();
    const url = server.exec(['true']);
    const other = server.exec(['true']);
    let now = performance.now();
    t.mock.method(performance, 'now', () => now);
    now += 59_000;
    (await connectSpdy(other, V4)).socket.destroy();
    now += 1001;
    await assert.rejects(connectSpdy(url, V4), /404 Not Found/);
  });

  it('make room when they have expired', () => {
    const tokens = new Tokens<string>({ lifetimeMs: 0, maxPending: 1 });
    assert.equal(tokens.take(tokens.issue('a')), undefined);
    tokens.issue('b');
  });

  it('are limited in number', async () => {
    await using server = await startServer();
    const urls = Array.from({ length: 1000 }, () => server.exec(['true']));
    assert.equal(new Set(urls).size, 1000);
    assert.throws(() => server.exec(['true']), { code: 'resource_exhausted', message: /1000 streaming URLs/ });
    (await connectSpdy(urls[0] ?? '', V4)).socket.destroy();
    server.exec(['true']);
  });

  it('are made for requests that can work only', async () => {
    await using server = await startServer();
    const invalid = { code: 'invalid_argument' };
    assert.throws(() => server.exec([]), invalid);
    assert.throws(() => server.exec(['sh'], { tty: true }), invalid);
    assert.throws(() => server.attach({ tty: true }), invalid);
    assert.throws(() => server.exec(['sh'], { stdin: false, stdout: false, stderr: false }), invalid);
    assert.throws(() => server.portForward(0), invalid);
    assert.throws(() => server.portForward(65_536), invalid);
    const all = { stdin: true, stdout: true, stderr: true, tty: false };
    assert.throws(() => server.server.attachUrl({ containerId: 'other', ...all }), { code: 'not_found' });
    assert.throws(() => server.server.portForwardUrl({ sandboxId: CONTAINER, ports: [] }), { code: 'not_found' });
  });
});

describe('attach', () => {
  it('joins several clients to the container, and ends with it', async () => {
    await using server = await startServer({
      fake: { main: ['sh', '-c', 'while read line; do echo "got $line"; done'] },
    });
    const first = await ChannelClient.connect(server.attach(), 'v5.channel.k8s.io');
    const second = await ChannelClient.connect(server.attach({ stdin: false }), 'v5.channel.k8s.io');
    await server.streams.settled(2);
    first.send(0, 'one\n');
    await Promise.all([first, second].map((client) => client.until(() => client.of(1) === 'got one\n')));
    second.socket.terminate();
    await server.streams.settled(1);
    first.send(0, 'two\n');
    await first.until(() => client1(first) === 'got one\ngot two\n');
    first.end(0);
    assert.equal(await first.closed, 1000);
    assert.deepEqual(JSON.parse(first.of(3)), { metadata: {}, status: 'Success' });
  });
});

const client1 = (client: ChannelClient): string => client.of(1);

describe('the streaming server', () => {
  it('closes a connection on which nothing moves', async () => {
    await using server = await startServer({ idleTimeoutMs: 100 });
    const client = await connectSpdy(server.exec(['cat']), V4);
    await client.closed();
    const channels = await ChannelClient.connect(server.exec(['cat']), 'v5.channel.k8s.io');
    assert.equal(await channels.closed, 1001);
    assert.equal(server.log.filter(({ fields }) => String(fields['reason']).startsWith('idle for')).length, 2);
  });

  it('counts everything that moves as no idleness', async () => {
    const { promise: idle, resolve } = Promise.withResolvers<void>();
    let over = false;
    const watch = watchIdle(200, () => {
      over = true;
      resolve();
    });
    // a busy machine delays both alike
    const moving = setInterval(() => watch.touch(), 20);
    await new Promise((done) => setTimeout(done, 700));
    assert.equal(over, false);
    clearInterval(moving);
    await idle;
  });

  it('knows a client that leaves before it has opened its streams', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(['cat']), V4);
    await client.open({ streamtype: 'error' });
    client.socket.destroy();
    await client.closed();
    const over = () => server.log.find(({ message }) => /^stream (ended|failed)$/.test(message));
    while (!over()) await new Promise(setImmediate);
    assert.deepEqual([over()?.message, over()?.fields['outcome']], ['stream ended', 'the client left']);
  });

  it('ends its connections when it is disposed', async () => {
    const server = await startServer();
    const client = await connectSpdy(server.exec(['sleep', '1000']), V4);
    for (const streamtype of ['error', 'stdin', 'stdout', 'stderr']) await client.open({ streamtype });
    const channels = await ChannelClient.connect(server.exec(['sleep', '1000']), 'v5.channel.k8s.io');
    const silent = connect(Number(new URL(server.server.baseUrl).port), '127.0.0.1');
    await once(silent, 'connect');
    await server.streams.settled(2);
    await server[Symbol.asyncDispose]();
    assert.equal(server.streams.sessions.size, 0);
    await Promise.all([client.closed(), channels.closed, once(silent.resume(), 'close')]);
  });

  it('refuses what is no HTTP', async () => {
    await using server = await startServer();
    const socket = connect(Number(new URL(server.server.baseUrl).port), '127.0.0.1');
    socket.write('\x80\x03\x00\x01 what?\r\n\r\n');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(String(answer), /^HTTP\/1\.1 400 /);
    socket.destroy();
  });

  it('speaks TLS with a certificate', async () => {
    await using undo = new AsyncDisposableStack();
    const directory = await temporaryDirectory();
    undo.defer(() => removeTree(directory));
    const certFile = join(directory, 'cert.pem');
    const keyFile = join(directory, 'key.pem');
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    await run('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      keyFile,
      '-out',
      certFile,
      ...subject,
    ]);
    await using server = await startServer({ tls: { certFile, keyFile } });
    const url = new URL(server.exec(['true']));
    assert.equal(url.protocol, 'https:');
    const socket = connectTls({ host: '127.0.0.1', port: Number(url.port), rejectUnauthorized: false });
    socket.write(`POST ${url.pathname} HTTP/1.1\r\nHost: x\r\n${SPDY_UPGRADE.join('\r\n')}\r\n\r\n`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(String(answer), /^HTTP\/1\.1 101 /);
    socket.destroy();
    const config = configSchema.parse({ streaming: { tls_cert: certFile, tls_key: keyFile } });
    const webSocket = await openWebSocket(server.exec(['echo', 'secret']), 'v5.channel.k8s.io', config);
    const said: Buffer[] = [];
    webSocket.on('message', (message: Buffer) => said.push(message.subarray(1))).resume();
    await once(webSocket, 'close');
    assert.match(Buffer.concat(said).toString(), /^secret\n/);
    await writeFile(keyFile, 'no key');
    for (const wrong of [keyFile, '/no/key']) {
      await assert.rejects(startServer({ tls: { certFile, keyFile: wrong } }), { code: 'failed_precondition' });
    }
  });

  it('leaves nothing of 1000 clients that came and went', { timeout: 120_000 }, async () => {
    await using server = await startServer();
    const visit = async (i: number): Promise<void> => {
      // every way of leaving: at once, in the middle, in order; both transports
      if (i % 2 === 0) {
        const client = await connectSpdy(server.exec(i % 10 === 0 ? ['cat'] : ['/no/such/command']), V4);
        if (i % 4 === 0)
          for (const streamtype of ['error', 'stdin', 'stdout', 'stderr']) await client.open({ streamtype });
        if (i % 20 === 0) await client.until((frames) => frames.length >= 4);
        client.socket.destroy();
        await client.closed();
        return;
      }
      const client = await ChannelClient.connect(
        server.exec(i % 10 === 1 ? ['cat'] : ['/no/such']),
        'v5.channel.k8s.io',
      );
      if (i % 4 === 1) client.socket.terminate();
      else client.end(0);
      await client.closed;
    };
    const round = async (from: number, count: number): Promise<void> => {
      for (let i = from; i < from + count; i += 10) {
        await Promise.all(Array.from({ length: 10 }, (_, j) => visit(i + j)));
      }
      await server.streams.settled(0);
    };
    await round(0, 100);
    const before = await held();
    await round(100, 1000);
    const after = await held();
    assert.ok(after.fds <= before.fds + 5, `${before.fds} open files before, ${after.fds} after`);
    assert.ok(
      after.listeners <= before.listeners + 5,
      `${before.listeners} listeners before, ${after.listeners} after`,
    );
    assert.ok(after.heap <= before.heap + 8_000_000, `${before.heap} bytes of heap before, ${after.heap} after`);
    assert.ok(after.timers <= before.timers + 5, `${before.timers} timers before, ${after.timers} after`);
  });
});

async function held() {
  // closing descriptors and reaping processes takes the loop some turns
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const resources = process.getActiveResourcesInfo();
  return {
    heap: process.memoryUsage().heapUsed,
    fds: readdirSync('/proc/self/fd').length,
    listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
    timers: resources.filter((name) => name === 'Timeout').length,
  };
}
