import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { clientFrame, Opcode, upgradeToWebSocket } from '../support/streaming/raw-websocket.ts';
import { startServer } from '../support/streaming/server.ts';
import { connectSpdy, word } from '../support/streaming/spdy-client.ts';

const V4 = ['v4.channel.k8s.io'];

describe('a client that breaks the protocol', () => {
  const block = Buffer.alloc(10);
  const nonsense: [string, Buffer, RegExp][] = [
    ['another version', Buffer.concat([Buffer.from([0x80, 2, 0, 1]), word(0)]), /a frame of version 2/],
    ['an unknown type', Buffer.concat([Buffer.from([0x80, 3, 0, 99]), word(0)]), /of type 99/],
    ['a huge control frame', Buffer.concat([Buffer.from([0x80, 3, 0, 1]), word(0xffffff)]), /of 16777215 bytes/],
    ['data of no stream', Buffer.concat([word(0), word(1), Buffer.alloc(1)]), /data of stream 0/],
    ['data of an unknown stream', Buffer.concat([word(99), word(1), Buffer.alloc(1)]), /data of stream 99/],
    ['a stream that is cut short', Buffer.concat([Buffer.from([0x80, 3, 0, 1]), word(4), word(1)]), /of 4 bytes/],
    [
      'headers that are not compressed',
      Buffer.concat([Buffer.from([0x80, 3, 0, 1]), word(20), word(1), Buffer.alloc(6), block]),
      /header block/,
    ],
    ['a reply', Buffer.concat([Buffer.from([0x80, 3, 0, 2]), word(4), word(1)]), /header block/],
    ['an empty ping', Buffer.concat([Buffer.from([0x80, 3, 0, 6]), word(0)]), /of 0 bytes/],
  ];
  for (const [what, bytes, reason] of nonsense) {
    it(`is told GOAWAY and left: ${what}`, async () => {
      await using server = await startServer();
      const client = await connectSpdy(server.exec(['cat']), V4);
      client.socket.write(bytes);
      await client.closed();
      assert.deepEqual(
        client.frames.map(({ type, status }) => [type, status]),
        [['goAway', 1]],
      );
      const logged = server.log.find(({ message }) => message === 'closing the connection of a streaming client');
      assert.match(String(logged?.fields['reason']), reason);
    });
  }

  it('cannot fill the memory with header blocks', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(['cat']), V4);
    const bomb = await client.compress(Buffer.concat([word(1), word(1_000_000), Buffer.alloc(1_000_000)]));
    assert.ok(bomb.length < 16_000);
    client.control(1, 0, Buffer.concat([word(1), word(0), Buffer.alloc(2), bomb]));
    await client.closed();
    assert.match(JSON.stringify(server.log), /header block is over 16384 bytes/);
  });

  it('cannot fill it with many headers, or headers that lie', async () => {
    const blocks = [
      Buffer.concat([
        word(65),
        ...Array.from({ length: 130 }, (_, i) => Buffer.concat([word(2), Buffer.from([i, i])])),
      ]),
      Buffer.concat([word(1), word(0xffffffff), Buffer.alloc(10)]),
      Buffer.concat([word(2), word(1), Buffer.from('a'), word(0), word(1), Buffer.from('A'), word(0)]),
      Buffer.concat([word(0), Buffer.alloc(1)]),
      Buffer.alloc(3),
    ];
    for (const plain of blocks) {
      await using server = await startServer();
      const client = await connectSpdy(server.exec(['cat']), V4);
      client.control(1, 0, Buffer.concat([word(1), word(0), Buffer.alloc(2), await client.compress(plain)]));
      await client.closed();
      assert.match(JSON.stringify(server.log), /a SPDY header block/);
    }
  });

  it('cannot use a stream twice, or open one from the other side', async () => {
    for (const id of [1, 2]) {
      await using server = await startServer();
      const client = await connectSpdy(server.exec(['cat']), V4);
      await client.synStream(1, { streamtype: 'error' });
      await client.synStream(id, { streamtype: 'stdin' });
      await client.closed();
      assert.match(JSON.stringify(server.log), /a stream \d after stream 1/);
    }
  });

  it('cannot make the server keep answers that it does not read', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(['cat']), V4);
    client.socket.pause();
    const pings = Buffer.concat(
      Array.from({ length: 5000 }, () => Buffer.from([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1])),
    );
    while (!server.log.some(({ fields }) => /does not read/.test(String(fields['reason'])))) {
      client.socket.write(pings);
      await new Promise((resolve) => setTimeout(resolve, 1));
      assert.ok(client.socket.bytesWritten < 500_000_000);
    }
    client.socket.destroy();
  });

  it('cannot make the server keep pongs that it does not read', async () => {
    await using server = await startServer();
    const { socket } = await upgradeToWebSocket(server.exec(['cat']), 'v5.channel.k8s.io');
    socket.pause();
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => clientFrame(Opcode.ping, Buffer.alloc(125))));
    while (!server.log.some(({ fields }) => /does not read/.test(String(fields['reason'])))) {
      socket.write(pings);
      await new Promise((resolve) => setTimeout(resolve, 1));
      assert.ok(socket.bytesWritten < 500_000_000);
    }
    socket.destroy();
    await server.streams.settled(0);
  });

  it('is refused streams that no command has', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(['cat']), V4);
    for (const streamtype of ['data', 'resize', '', 'stdin', 'stdin']) await client.open({ streamtype });
    await client.until((frames) => frames.length === 5);
    assert.deepEqual(
      client.frames.map(({ type }) => type),
      ['rstStream', 'rstStream', 'rstStream', 'synReply', 'rstStream'],
    );
    client.socket.destroy();
  });

  it('is left when its WebSocket frames are wrong', async () => {
    const wrong = [
      Buffer.from([0x82, 1, 0]), // not masked
      Buffer.from([0xf2, 0x80, 0, 0, 0, 0]), // reserved bits
      clientFrame(3, Buffer.alloc(1)), // an opcode that does not exist
      clientFrame(Opcode.ping, Buffer.alloc(126)), // a long control frame
      clientFrame(Opcode.continuation, Buffer.alloc(1)), // of nothing
      Buffer.from([0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), // 16 MiB
      clientFrame(Opcode.binary, Buffer.from([255, 0, 0])), // a close signal for two channels
    ];
    for (const bytes of wrong) {
      await using server = await startServer();
      const { socket, answer } = await upgradeToWebSocket(server.exec(['cat']), 'v5.channel.k8s.io');
      assert.match(answer, /^HTTP\/1\.1 101 /);
      socket.resume().write(bytes);
      await once(socket, 'close');
      await server.streams.settled(0);
      assert.ok(
        server.log.some(({ message }) => message === 'closing the connection of a streaming client'),
        bytes.toString('hex'),
      );
    }
  });
});
