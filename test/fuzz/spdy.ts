import { ok, strictEqual } from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { constants, deflateRawSync, deflateSync } from 'node:zlib';
import type { StreamRequest } from '../../src/streaming/requests.ts';
import { serveSpdy } from '../../src/streaming/serve.ts';
import { HEADER_DICTIONARY } from '../../src/streaming/spdy/dictionary.ts';
import { echoStreams } from '../support/streaming/echo-streams.ts';
import { countingLogger } from '../support/streaming/server.ts';
import { SpdyClient, word } from '../support/streaming/spdy-client.ts';
import type { Random } from './random.ts';
import type { FuzzTarget } from './target.ts';

const EVERYTHING = { stdin: true, stdout: true, stderr: true, tty: false };
const COMMAND: StreamRequest = { kind: 'exec', containerId: 'box', command: ['echo'], streams: EVERYTHING };
const FORWARD: StreamRequest = { kind: 'portforward', sandboxId: 'pod', ports: [] };
const VALUES = [
  'error',
  'stdin',
  'stdout',
  'stderr',
  'resize',
  'data',
  '80',
  '81',
  '0',
  '65536',
  '-1',
  '',
  'x'.repeat(300),
];

/** `bytes` that a client sends and, slow as it is, does not take back; and those of them that may wait for it */
const MUCH = 1024 * 1024;
const MAX_HELD = 256 * 1024;
/** what a socket reads at once */
const READ_BYTES = 64 * 1024;

/**
 * A connection gets a client's frames, some as they should be and some damaged, and then loses its client. Some clients
 * read nothing for a while.
 */
export async function openSpdyTarget(): Promise<FuzzTarget> {
  const streams = echoStreams();
  const { log, counts } = countingLogger();
  let replies = 0;
  let most = 0;
  return {
    run: async (random) => {
      const [server, side] = duplexPair();
      const request = random.once(2) ? COMMAND : FORWARD;
      const options = {
        idleTimeoutMs: 0,
        log,
        service: streams,
        protocol: random.pick(['v4.channel.k8s.io', 'channel.k8s.io']),
        ports: [],
      };
      const served = serveSpdy(server, request, options).catch(() => undefined);
      const client = new SpdyClient(side, '', Buffer.alloc(0));
      const isSlow = random.once(4);
      if (isSlow) side.pause();
      const sent = [...frames(random, request.kind), ...(isSlow ? [muchToEcho()] : [])];
      for (const piece of random.pieces(Buffer.concat(sent))) {
        if (!side.writable) break;
        for (let at = 0; at < piece.length; at += READ_BYTES) side.write(piece.subarray(at, at + READ_BYTES));
        if (random.once(4)) await new Promise(setImmediate);
      }
      if (random.once(2)) side.end();
      for (let i = random.below(4); i > 0; i--) await new Promise(setImmediate);
      if (isSlow) for (let i = 0; i < 20; i++) await new Promise(setImmediate);
      most = Math.max(most, server.writableLength);
      ok(server.writableLength <= MAX_HELD, `${server.writableLength} bytes wait for a client that reads nothing`);
      if (isSlow && random.once(2)) side.resume();
      for (let i = random.below(4); i > 0; i--) await new Promise(setImmediate);
      replies += client.frames.length;
      side.destroy();
      server.destroy();
      await served;
      for (let i = 0; i < 100 && streams.open() > 0; i++) await new Promise(setImmediate);
      strictEqual(streams.open(), 0, 'sessions or connections are left open');
    },
    summary: () =>
      `${replies} frames answered, ${counts.warn} connections refused with a reason, at most ${most} bytes unread`,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** For a command's input, or a forwarded connection: both have the number 3, if they were opened as they should. */
const muchToEcho = (): Buffer => data(3, Buffer.alloc(MUCH), 0);

function frames(random: Random, kind: StreamRequest['kind']): Buffer[] {
  const headers = new HeaderBlocks();
  const made: Buffer[] = [];
  const types = kind === 'exec' ? ['error', 'stdin', 'stdout', 'stderr'] : ['error', 'data'];
  if (!random.once(4)) {
    for (const [i, streamtype] of types.entries()) {
      made.push(synStream(1 + 2 * i, headers.block({ streamtype, port: '80', requestid: '1' }), 0));
    }
  }
  // half of the clients know the protocol, and are strange all the same
  const next = random.once(2) ? { id: 2 * made.length + 1 } : undefined;
  for (let i = random.below(24); i > 0; i--) {
    if (next) {
      made.push(rightFrame(random, headers, next));
    } else {
      const frame = anyFrame(random, headers);
      made.push(random.once(4) ? random.damaged(frame) : frame);
    }
  }
  return made;
}

function rightFrame(random: Random, headers: HeaderBlocks, next: { id: number }): Buffer {
  const fin = random.once(3) ? 1 : 0;
  const known = next.id === 1 ? undefined : 1 + 2 * random.below((next.id - 1) / 2);
  if (known === undefined || random.once(3)) {
    const opened = synStream(next.id, headers.block(anyHeaders(random)), fin);
    next.id += 2;
    return opened;
  }
  if (random.once(6)) return control(3, 0, Buffer.concat([word(known), word(5)]));
  if (random.once(6)) return control(6, 0, word(1 + random.below(99)));
  if (random.once(30)) return control(7, 0, Buffer.alloc(8));
  return data(known, random.bytes(random.length()), fin);
}

function anyFrame(random: Random, headers: HeaderBlocks): Buffer {
  const id = random.once(10) ? random.below(2 ** 32) : 1 + random.below(12);
  const flags = random.once(3) ? 1 : random.once(10) ? random.below(256) : 0;
  const kind = random.below(12);
  if (kind < 4) return synStream(id, headers.block(anyHeaders(random)), flags);
  if (kind < 8) return data(id & 0x7fffffff, random.bytes(random.length()), flags);
  if (kind === 8) return control(3, flags, Buffer.concat([word(id), word(random.below(12))]));
  if (kind === 9) return control(6, flags, word(id));
  if (kind === 10) return control(random.pick([1, 2, 4, 7, 8, 9, 99]), flags, random.bytes(random.below(40)));
  return random.bytes(random.below(40));
}

function anyHeaders(random: Random): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let i = random.below(5); i > 0; i--) {
    headers[random.pick(['streamtype', 'port', 'requestid', 'Port', ':path', ''])] = random.pick(VALUES);
  }
  return headers;
}

/** One connection's, each flushed: what was said before is the dictionary of what comes. */
class HeaderBlocks {
  #said = HEADER_DICTIONARY;

  block(headers: Readonly<Record<string, string>>): Buffer {
    const entries = Object.entries(headers);
    const fields = entries.flat().flatMap((text) => [word(text.length), Buffer.from(text)]);
    const plain = Buffer.concat([word(entries.length), ...fields]);
    const options = { dictionary: this.#said.subarray(-32_768), finishFlush: constants.Z_SYNC_FLUSH };
    const first = this.#said === HEADER_DICTIONARY;
    this.#said = Buffer.concat([this.#said, plain]);
    return first ? deflateSync(plain, options) : deflateRawSync(plain, options);
  }
}

function synStream(id: number, block: Buffer, flags: number): Buffer {
  return control(1, flags, Buffer.concat([word(id), word(0), Buffer.alloc(2), block]));
}

function control(type: number, flags: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0x80, 3, type >> 8, type & 255]), word((flags << 24) | payload.length), payload]);
}

function data(id: number, payload: Buffer, flags: number): Buffer {
  return Buffer.concat([word(id), word((flags << 24) | payload.length), payload]);
}
