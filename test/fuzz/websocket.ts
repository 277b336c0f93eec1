import { strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { openStreaming } from '../../src/streaming/index.ts';
import { echoStreams } from '../support/streaming/echo-streams.ts';
import { clientFrame, Opcode, upgradeToWebSocket } from '../support/streaming/raw-websocket.ts';
import { countingLogger } from '../support/streaming/server.ts';
import type { Random } from './random.ts';
import type { FuzzTarget } from './target.ts';

const EVERYTHING = { stdin: true, stdout: true, stderr: true, tty: false };
const COMMAND_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'channel.k8s.io', 'base64.channel.k8s.io'];
const FORWARD_PROTOCOLS = ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io', 'SPDY/3.1+portforward.k8s.io'];

/**
 * A real server's connections get frames, some as they should be and some damaged, and then lose their client. Some
 * clients read nothing for a while.
 */
export async function openWebSocketTarget(): Promise<FuzzTarget> {
  const streams = echoStreams();
  const { log, counts } = countingLogger();
  const server = await openStreaming({ address: '127.0.0.1', port: 0, idleTimeoutMs: 0, streams, log });
  let bytes = 0;
  return {
    run: async (random) => {
      const forward = random.once(3);
      const url = forward
        ? server.portForwardUrl({ sandboxId: 'pod', ports: [80, 81] })
        : server.execUrl({
            containerId: 'box',
            command: ['echo'],
            ...EVERYTHING,
            ...(random.once(3) && { tty: true, stderr: false }),
          });
      const protocol = random.pick(forward ? FORWARD_PROTOCOLS : COMMAND_PROTOCOLS);
      const { socket, answer } = await upgradeToWebSocket(url, protocol);
      strictEqual(answer.startsWith('HTTP/1.1 101 '), true, answer);
      socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
      const isSlow = random.once(8);
      if (isSlow) socket.pause();
      for (const piece of random.pieces(Buffer.concat([...frames(random), ...(isSlow ? muchToEcho() : [])]))) {
        if (!socket.writable) break;
        socket.write(piece);
        if (random.once(4)) await new Promise(setImmediate);
      }
      if (isSlow && random.once(2)) socket.resume();
      if (random.once(2)) socket.end();
      for (let i = random.below(4); i > 0; i--) await new Promise(setImmediate);
      if (!socket.closed) {
        socket.destroy();
        await once(socket, 'close');
      }
      const before = counts.info;
      // the server learns of it a moment later
      for (let i = 0; i < 2000 && (streams.open() > 0 || counts.info === before); i++) await new Promise(setImmediate);
      strictEqual(streams.open(), 0, 'sessions or connections are left open');
    },
    summary: () => `${bytes} bytes answered, ${counts.warn} connections refused with a reason`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** More than the kernel holds for a client that reads nothing. */
function muchToEcho(): Buffer[] {
  return Array.from({ length: 128 }, () => clientFrame(Opcode.binary, Buffer.alloc(64_000)));
}

function frames(random: Random): Buffer[] {
  // half of the clients know the protocol, and are strange all the same
  const knowing = random.once(2);
  return Array.from({ length: random.below(24) }, () => {
    if (knowing) return clientFrame(random.once(10) ? Opcode.ping : Opcode.binary, payload(random).subarray(0, 125));
    const frame = clientFrame(anyOpcode(random), payload(random), { fin: !random.once(8) });
    return random.once(6) ? random.damaged(frame) : frame;
  });
}

function anyOpcode(random: Random): number {
  return random.once(2) ? Opcode.binary : random.pick([0, 1, 2, 8, 9, 10, random.below(16)]);
}

function payload(random: Random): Buffer {
  const channel = random.pick([0, 1, 2, 3, 4, 5, 48, 49, 52, 254, 255]);
  if (channel === 4) return Buffer.concat([Buffer.from([4]), random.damaged(Buffer.from('{"Width":80,"Height":24}'))]);
  const body = random.bytes(random.length());
  return random.once(10) ? body : Buffer.concat([Buffer.from([channel]), body]).subarray(0, 65_535);
}
