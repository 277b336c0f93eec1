import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChannelClient } from '../support/streaming/channel-client.ts';
import { clientFrame, Opcode, RawTunnel, upgradeToWebSocket } from '../support/streaming/raw-websocket.ts';
import { startServer } from '../support/streaming/server.ts';
import { SpdyClient } from '../support/streaming/spdy-client.ts';
import { countTcp, deafPort, listenTcp } from '../support/streaming/tcp.ts';

const [STDIN, STDOUT, STDERR, ERROR, RESIZE] = [0, 1, 2, 3, 4] as const;
const NORMAL = 1000;
const SUCCESS = { metadata: {}, status: 'Success' };
const sh = (script: string): string[] => ['sh', '-c', script];

describe('a command over WebSocket', () => {
  it('is over, in version 5, when the client ends its input', async () => {
    await using server = await startServer();
    const client = await ChannelClient.connect(server.exec(sh('cat; echo problem >&2; exit 7')), 'v5.channel.k8s.io');
    assert.equal(client.socket.protocol, 'v5.channel.k8s.io');
    client.send(STDIN, 'one ');
    client.send(STDIN, 'two');
    client.end(STDIN);
    assert.equal(await client.closed, NORMAL);
    // the first message says that the server is ready
    assert.deepEqual(client.messages[0], Buffer.from([STDOUT]));
    assert.equal(client.of(STDOUT), 'one two');
    assert.equal(client.of(STDERR), 'problem\n');
    assert.equal(JSON.parse(client.of(ERROR)).details.causes[0].message, '7');
    // all output is before the status
    assert.equal(client.messages.at(-1)?.[0], ERROR);
  });

  it('speaks the older versions, in binary and in base64', async () => {
    await using server = await startServer();
    const text = 'command terminated with non-zero exit code: 3';
    const protocols: [string[], boolean][] = [
      [[], false],
      [['channel.k8s.io'], false],
      [['base64.channel.k8s.io'], false],
      [['v4.channel.k8s.io'], true],
      [['v4.base64.channel.k8s.io'], true],
    ];
    for (const [names, isJson] of protocols) {
      const client = await ChannelClient.connect(server.exec(sh('read line; echo "got $line"; exit $line')), ...names);
      assert.equal(client.socket.protocol, names[0] ?? '');
      client.send(STDIN, '3\n');
      assert.equal(await client.closed, NORMAL);
      assert.equal(client.of(STDOUT), 'got 3\n');
      assert.equal(isJson ? JSON.parse(client.of(ERROR)).message : client.of(ERROR), text);
      const good = await ChannelClient.connect(server.exec(['true']), ...names);
      assert.equal(await good.closed, NORMAL);
      if (isJson) assert.deepEqual(JSON.parse(good.of(ERROR)), SUCCESS);
      else assert.equal(good.of(ERROR), '');
    }
  });

  it('follows the terminal size, and ignores what is for nobody', async () => {
    await using server = await startServer();
    const url = server.exec(sh('read line; echo $line'), { tty: true, stderr: false });
    const client = await ChannelClient.connect(url, 'v5.channel.k8s.io');
    for (const channel of [ERROR, STDERR, 9, 254]) client.send(channel, 'nonsense');
    client.send(RESIZE, '{"Width":80,"Height":24}\n');
    client.end(9);
    client.send(STDIN, 'done\n');
    assert.equal(await client.closed, NORMAL);
    assert.equal(client.of(STDOUT), 'done\n');
    assert.deepEqual(server.streams.sizes, [{ columns: 80, rows: 24 }]);
  });

  it('leaves the process when the client is gone', async () => {
    await using server = await startServer();
    for (const command of [['cat'], ['yes'], ['sleep', '1000']]) {
      const client = await ChannelClient.connect(server.exec(command), 'v5.channel.k8s.io');
      await server.streams.settled(1);
      client.socket.terminate();
      await server.streams.settled(0);
    }
  });

  it('tells a client that the VM has died', async () => {
    await using server = await startServer();
    const client = await ChannelClient.connect(server.exec(['cat']), 'v5.channel.k8s.io');
    await server.streams.settled(1);
    server.streams.killVm();
    assert.equal(await client.closed, NORMAL);
    assert.match(JSON.parse(client.of(ERROR)).message, /the VM of the pod has died/);
  });

  it('neither reads nor writes faster than the other side', async () => {
    await using server = await startServer();
    const reader = await ChannelClient.connect(server.exec(['yes']), 'v5.channel.k8s.io');
    await reader.until(() => reader.of(STDOUT).length > 0);
    reader.socket.pause();
    const [session] = server.streams.sessions;
    assert.ok(session?.stdout);
    while (session.stdout.readableFlowing) await once(session.stdout, 'pause');
    reader.socket.terminate();
    await server.streams.settled(0);

    const writer = await ChannelClient.connect(server.exec(['sleep', '1000']), 'v5.channel.k8s.io');
    let sent = 0;
    for (; writer.socket.bufferedAmount < 4_000_000; sent += 65_536) {
      writer.send(STDIN, Buffer.alloc(65_536));
      await new Promise(setImmediate);
      assert.ok(sent < 100_000_000);
    }
    writer.socket.terminate();
  });
});

describe('port-forward over WebSocket', () => {
  it('has two channels for each port, which start with it', async () => {
    await using target = await listenTcp((socket) => socket.end(`bye ${target.port}`));
    await using server = await startServer();
    const deaf = await deafPort();
    for (const protocol of ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io']) {
      const client = await ChannelClient.connect(server.portForward(target.port, deaf), protocol);
      assert.equal(await client.closed, NORMAL);
      const start = (port: number): string => Buffer.from(Uint16Array.of(port).buffer).toString();
      assert.equal(client.of(0), `${start(target.port)}bye ${target.port}`);
      assert.equal(client.of(1), start(target.port));
      assert.equal(client.of(2), start(deaf));
      assert.match(client.of(3), /error forwarding port \d+ to pod pod: nobody listens/);
    }
  });

  it('takes the ports from the query when the URL has none, and wants some', async () => {
    await using target = await listenTcp((socket) => socket.pipe(socket));
    await using server = await startServer();
    const url = server.portForward();
    await assert.rejects(ChannelClient.connect(url, 'v4.channel.k8s.io'), /status 400/);
    await assert.rejects(ChannelClient.connect(`${url}?port=0`, 'v4.channel.k8s.io'), /status 400/);
    const client = await ChannelClient.connect(`${url}?ports=${target.port}`, 'v4.channel.k8s.io');
    client.send(0, 'echo');
    await client.until(() => client.of(0).endsWith('echo'));
    client.socket.close();
    await client.closed;
    while (server.streams.forwarded.size > 0) await new Promise(setImmediate);
  });

  it('carries SPDY as well', async () => {
    await using target = await listenTcp(countTcp);
    await using server = await startServer();
    const { socket, answer, rest } = await upgradeToWebSocket(server.portForward(), 'SPDY/3.1+portforward.k8s.io');
    assert.match(answer, /^HTTP\/1\.1 101 [^]*Sec-WebSocket-Protocol: SPDY\/3\.1\+portforward\.k8s\.io/);
    const tunnel = new RawTunnel(socket, rest);
    const client = new SpdyClient(tunnel, '', Buffer.alloc(0));
    const pair = { port: String(target.port), requestid: '0' };
    const error = await client.open({ streamtype: 'error', ...pair }, true);
    const data = await client.open({ streamtype: 'data', ...pair });
    for (let i = 0; i < 100; i++) client.data(data, Buffer.alloc(30_000));
    client.data(data, '', true);
    assert.equal(await client.whole(data), '3000000 bytes');
    assert.equal(await client.whole(error), '');
    client.control(7, 0, Buffer.alloc(8));
    assert.equal(await tunnel.ended(), NORMAL);
  });

  it('is kept open by the pings of a client that has nothing to send, and only so long', async () => {
    await using server = await startServer({ idleTimeoutMs: 1000 });
    const { socket, rest } = await upgradeToWebSocket(server.portForward(), 'SPDY/3.1+portforward.k8s.io');
    const tunnel = new RawTunnel(socket, rest);
    tunnel.resume();
    const pinging = setInterval(() => socket.write(clientFrame(Opcode.ping, Buffer.alloc(0))), 50);
    await sleep(2500);
    assert.equal(server.log.filter(({ fields }) => String(fields['reason']).startsWith('idle')).length, 0);
    clearInterval(pinging);
    await once(tunnel, 'close');
    assert.equal(server.log.filter(({ fields }) => String(fields['reason']).startsWith('idle')).length, 1);
  });
});
