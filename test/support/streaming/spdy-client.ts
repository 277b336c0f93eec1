/** A SPDY/3.1 client as plain as it gets: every frame as it comes, nothing answered by itself. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';
import { HEADER_DICTIONARY } from '../../../src/streaming/spdy/dictionary.ts';

export interface ReceivedFrame {
  readonly type: 'data' | 'synReply' | 'rstStream' | 'ping' | 'goAway';
  /** of a ping, its id; of a goAway, the last good stream */
  readonly id: number;
  readonly fin: boolean;
  /** of rstStream and goAway */
  readonly status: number;
  readonly data: Buffer;
}

const TYPES: Readonly<Record<number, ReceivedFrame['type']>> = {
  2: 'synReply',
  3: 'rstStream',
  6: 'ping',
  7: 'goAway',
};

/** Upgrades; throws with the first line of the answer when it is not 101. */
export async function connectSpdy(url: string, protocols: readonly string[]): Promise<SpdyClient> {
  const { socket, answer, rest } = await upgrade(url, [
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    ...protocols.map((protocol) => `X-Stream-Protocol-Version: ${protocol}`),
  ]);
  if (!answer.startsWith('HTTP/1.1 101 ')) {
    socket.destroy();
    throw new Error(answer);
  }
  return new SpdyClient(socket, answer, rest);
}

/** Sends a request with these header lines; returns the head of the answer and what came behind it. */
export async function upgrade(url: string, headers: readonly string[], method = 'POST') {
  const { hostname, port, pathname, search } = new URL(url);
  const socket = connect(Number(port), hostname);
  // that the server resets what it closes shows elsewhere
  socket.on('error', () => undefined);
  socket.write(`${method} ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}\r\n${headers.join('\r\n')}\r\n\r\n`);
  let received = Buffer.alloc(0);
  for (;;) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    received = Buffer.concat([received, chunk]);
    const end = received.indexOf('\r\n\r\n');
    if (end >= 0) return { socket, answer: received.toString('latin1', 0, end), rest: received.subarray(end + 4) };
  }
}

export class SpdyClient<Transport extends Duplex = Socket> {
  readonly socket: Transport;
  /** head of the HTTP answer */
  readonly answer: string;
  /** all so far; those of streams that were collected have gone */
  readonly frames: ReceivedFrame[] = [];
  readonly #deflate: Deflate = createDeflate({ dictionary: HEADER_DICTIONARY });
  readonly #inflate: Inflate = createInflate({ dictionary: HEADER_DICTIONARY });
  #bytes: Buffer;
  #nextId = 1;
  #woken: (() => void)[] = [];

  constructor(socket: Transport, answer: string, rest: Buffer) {
    this.socket = socket;
    this.answer = answer;
    this.#bytes = rest;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
      this.#parse();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#wake());
    this.#parse();
  }

  /** Opens a stream; does not wait for the reply. */
  async open(headers: Readonly<Record<string, string>>, fin = false): Promise<number> {
    const id = this.#nextId;
    this.#nextId += 2;
    await this.synStream(id, headers, fin);
    return id;
  }

  async synStream(id: number, headers: Readonly<Record<string, string>>, fin = false): Promise<void> {
    const entries = Object.entries(headers);
    const plain = Buffer.concat([
      word(entries.length),
      ...entries.flat().flatMap((text) => [word(text.length), Buffer.from(text)]),
    ]);
    this.control(1, fin ? 1 : 0, Buffer.concat([word(id), word(0), Buffer.alloc(2), await this.compress(plain)]));
  }

  async compress(plain: Buffer): Promise<Buffer> {
    const parts: Buffer[] = [];
    const collect = (part: Buffer): void => void parts.push(part);
    this.#deflate.on('data', collect);
    this.#deflate.write(plain);
    const flushed = Promise.withResolvers<void>();
    this.#deflate.flush(constants.Z_SYNC_FLUSH, flushed.resolve);
    await flushed.promise;
    this.#deflate.off('data', collect);
    return Buffer.concat(parts);
  }

  data(id: number, data: Buffer | string, fin = false): boolean {
    const payload = Buffer.from(data);
    return this.socket.write(Buffer.concat([word(id), word(((fin ? 1 : 0) << 24) | payload.length), payload]));
  }

  reset(id: number): void {
    this.control(3, 0, Buffer.concat([word(id), word(5)]));
  }

  ping(id: number): void {
    this.control(6, 0, word(id));
  }

  control(type: number, flags: number, payload: Buffer): void {
    const head = Buffer.alloc(4);
    head.writeUInt16BE(0x8003, 0);
    head.writeUInt16BE(type, 2);
    this.socket.write(Buffer.concat([head, word((flags << 24) | payload.length), payload]));
  }

  /** Waits until the frames so far satisfy it; throws when the connection closes first. */
  async until(satisfied: (frames: readonly ReceivedFrame[]) => boolean): Promise<void> {
    while (!satisfied(this.frames)) {
      if (this.socket.closed) throw new Error(`the server closed the connection after ${this.describe()}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#woken.push(resolve);
      await promise;
    }
  }

  async closed(): Promise<void> {
    if (!this.socket.closed) await once(this.socket, 'close');
  }

  /** All data of a stream, after its end. */
  async whole(id: number): Promise<string> {
    await this.until((frames) => frames.some((frame) => frame.type === 'data' && frame.id === id && frame.fin));
    return this.sofar(id);
  }

  sofar(id: number): string {
    const data = this.frames.filter((frame) => frame.type === 'data' && frame.id === id).map((frame) => frame.data);
    return Buffer.concat(data).toString();
  }

  describe(): string {
    return this.frames.map(({ type, id, fin, data }) => `${type} ${id}${fin ? ' fin' : ''} ${data.length}`).join(', ');
  }

  /** Reply blocks must be one zlib stream that this side can unpack, too. */
  async unpackReply(block: Buffer): Promise<Buffer> {
    const unpacked = once(this.#inflate, 'data');
    this.#inflate.write(block);
    this.#inflate.flush(constants.Z_SYNC_FLUSH);
    const [plain] = (await unpacked) as [Buffer];
    return plain;
  }

  #parse(): void {
    while (this.#bytes.length >= 8) {
      const length = this.#bytes.readUIntBE(5, 3);
      if (this.#bytes.length < 8 + length) break;
      this.frames.push(readFrame(this.#bytes.subarray(0, 8 + length)));
      this.#bytes = this.#bytes.subarray(8 + length);
    }
    this.#wake();
  }

  #wake(): void {
    const woken = this.#woken;
    this.#woken = [];
    for (const wake of woken) wake();
  }
}

function readFrame(frame: Buffer): ReceivedFrame {
  const first = frame.readUInt32BE(0);
  const fin = (frame.readUInt8(4) & 1) === 1;
  const payload = frame.subarray(8);
  if (first < 0x80000000) return { type: 'data', id: first, fin, status: 0, data: payload };
  const type = TYPES[first & 0xffff];
  if (!type) throw new Error(`the server sent a control frame of type ${first & 0xffff}`);
  const status = payload.length >= 8 && type !== 'synReply' ? payload.readUInt32BE(4) : 0;
  return { type, id: payload.readUInt32BE(0), fin, status, data: payload.subarray(4) };
}

export function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
