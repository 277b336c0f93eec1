import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { connectSpdy, type SpdyClient } from '../support/streaming/spdy-client.ts';
import { startServer, type TestServer } from '../support/streaming/server.ts';
import { countTcp, deafPort, listenTcp } from '../support/streaming/tcp.ts';

const PROTOCOL = ['portforward.k8s.io'];

async function openForward(server: TestServer): Promise<SpdyClient> {
  return connectSpdy(server.portForward(), PROTOCOL);
}

/** As client-go does it: the error stream's own direction ends at once. */
async function openPair(client: SpdyClient, port: number | string, requestid?: string) {
  const common = { port: String(port), ...(requestid !== undefined && { requestid }) };
  const error = await client.open({ streamtype: 'error', ...common }, true);
  const data = await client.open({ streamtype: 'data', ...common });
  return { error, data };
}

const isReset = (id: number) => (client: SpdyClient) =>
  client.until((frames) => frames.some((frame) => frame.type === 'rstStream' && frame.id === id));

describe('port-forward over SPDY', () => {
  it('carries both directions, which end each by itself', async () => {
    await using target = await listenTcp(countTcp);
    await using server = await startServer();
    const client = await openForward(server);
    const { error, data } = await openPair(client, target.port, '0');
    client.data(data, Buffer.alloc(100_000));
    client.data(data, Buffer.alloc(23), true);
    assert.equal(await client.whole(data), '100023 bytes');
    assert.equal(await client.whole(error), '');
    // the error stream has ended before the data: clients look at it as soon as the data ends
    const ends = client.frames.filter(({ type, fin }) => type === 'data' && fin).map(({ id }) => id);
    assert.deepEqual(ends, [error, data]);
    client.socket.destroy();
  });

  it("passes the target's end on while the client still sends", async () => {
    let received = '';
    const { promise: complete, resolve } = Promise.withResolvers<void>();
    await using target = await listenTcp((socket) => {
      socket.end('hello');
      socket.on('data', (chunk) => (received += String(chunk)));
      socket.on('end', resolve);
    });
    await using server = await startServer();
    const client = await openForward(server);
    const { data } = await openPair(client, target.port, '0');
    assert.equal(await client.whole(data), 'hello');
    client.data(data, 'still ');
    client.data(data, 'here', true);
    await complete;
    assert.equal(received, 'still here');
    client.socket.destroy();
  });

  it('has many connections side by side, and goes on when one fails', async () => {
    await using target = await listenTcp((socket) => socket.pipe(socket));
    await using server = await startServer();
    const client = await openForward(server);
    const deaf = await deafPort();
    const failed = await openPair(client, deaf, 'x');
    assert.match(
      await client.whole(failed.error),
      new RegExp(`error forwarding port ${deaf} to pod pod: nobody listens`),
    );
    await client.whole(failed.data);
    const pairs: { readonly data: number }[] = [];
    for (let i = 0; i < 100; i++) pairs.push(await openPair(client, target.port, String(i)));
    for (const [i, { data }] of pairs.entries()) client.data(data, `number ${i}`, true);
    for (const [i, { data }] of pairs.entries()) assert.equal(await client.whole(data), `number ${i}`);
    client.socket.destroy();
  });

  it('pairs the streams of clients that name no request', async () => {
    await using target = await listenTcp((socket) => socket.pipe(socket));
    await using server = await startServer();
    const client = await openForward(server);
    const { data } = await openPair(client, target.port);
    client.data(data, 'old', true);
    assert.equal(await client.whole(data), 'old');
    client.socket.destroy();
  });

  it('drops the connection that the client resets', async () => {
    const { promise: dropped, resolve } = Promise.withResolvers<void>();
    await using target = await listenTcp((socket) => {
      socket.write('x');
      socket.resume().on('end', resolve);
    });
    await using server = await startServer();
    const client = await openForward(server);
    const { error, data } = await openPair(client, target.port, '0');
    await client.until(() => client.sofar(data) === 'x');
    client.reset(data);
    await Promise.all([dropped, isReset(error)(client)]);
    assert.equal(server.streams.forwarded.size, 0);
    client.socket.destroy();
  });

  it('leaves its targets when the client is gone', async () => {
    const { promise: dropped, resolve } = Promise.withResolvers<void>();
    await using target = await listenTcp((socket) => socket.resume().on('end', resolve));
    await using server = await startServer();
    const client = await openForward(server);
    const { data } = await openPair(client, target.port, '0');
    client.data(data, 'x');
    await client.until((frames) => frames.filter(({ type }) => type === 'synReply').length === 2);
    while (target.sockets.size === 0) await new Promise(setImmediate);
    client.socket.destroy();
    await dropped;
  });

  it('refuses streams that make no sense, and keeps the others', async () => {
    await using target = await listenTcp((socket) => socket.pipe(socket));
    await using server = await startServer();
    const client = await openForward(server);
    const wrong = [
      { streamtype: 'data', port: '0', requestid: 'a' },
      { streamtype: 'data', port: '65536', requestid: 'b' },
      { streamtype: 'data', port: 'http', requestid: 'c' },
      { streamtype: 'data', requestid: 'd' },
      { streamtype: 'stdin', port: '80', requestid: 'e' },
      {},
    ];
    for (const headers of wrong) await isReset(await client.open(headers))(client);
    await client.open({ streamtype: 'error', port: '80', requestid: 'f' });
    await isReset(await client.open({ streamtype: 'error', port: '80', requestid: 'f' }))(client);
    await isReset(await client.open({ streamtype: 'data', port: '81', requestid: 'f' }))(client);
    const { data } = await openPair(client, target.port, 'g');
    client.data(data, 'fine', true);
    assert.equal(await client.whole(data), 'fine');
    client.socket.destroy();
  });

  it('has so many streams and no more', async () => {
    await using server = await startServer();
    const client = await openForward(server);
    for (let i = 0; i < 1024; i++) await client.open({ streamtype: 'error', port: '80', requestid: String(i) });
    const refused = await client.open({ streamtype: 'error', port: '80', requestid: 'more' });
    await isReset(refused)(client);
    assert.equal(client.frames.filter(({ type }) => type === 'synReply').length, 1024);
    assert.equal(client.frames.find(({ id }) => id === refused)?.status, 3);
    client.socket.destroy();
  });

  it('reads a target no faster than the client reads', async () => {
    const chunk = Buffer.alloc(65_536);
    await using target = await listenTcp((socket) => {
      const fill = (): void => {
        while (!socket.destroyed && socket.write(chunk));
      };
      socket.on('drain', fill);
      fill();
    });
    await using server = await startServer();
    const client = await openForward(server);
    const { data } = await openPair(client, target.port, '0');
    await client.until(() => client.sofar(data).length > 0);
    client.socket.pause();
    const [source] = server.streams.forwarded;
    assert.ok(source);
    while (source.readableFlowing) await new Promise(setImmediate);
    assert.ok(source.readableLength < 1_000_000);
    client.socket.destroy();
  });
});
