/** A WebSocket client of bare frames, for what `ws` would not send: protocols with a slash, and nonsense. */
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { upgrade } from './spdy-client.ts';

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

const KEY = Buffer.alloc(16, 1).toString('base64');

/** Upgrades with these protocols; the head of the answer, whatever it is. */
export async function upgradeToWebSocket(url: string, ...protocols: string[]) {
  const lines = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', `Sec-WebSocket-Key: ${KEY}`];
  if (protocols.length > 0) lines.push(`Sec-WebSocket-Protocol: ${protocols.join(', ')}`);
  return upgrade(url, lines, 'GET');
}

/** Masked, as clients' frames are, with the mask 0. */
export function clientFrame(opcode: number, payload: Buffer, { fin = true } = {}): Buffer {
  const first = (fin ? 0x80 : 0) | opcode;
  const length =
    payload.length < 126
      ? Buffer.from([0x80 | payload.length])
      : Buffer.from([0x80 | 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([Buffer.from([first]), length, Buffer.alloc(4), payload]);
}

/** Binary messages as one stream of bytes, both ways; ends with the server's close frame, whose code it keeps. */
export class RawTunnel extends Duplex {
  readonly #socket: Duplex;
  #bytes: Buffer;
  closeCode = 0;

  constructor(socket: Duplex, rest: Buffer) {
    super();
    this.#socket = socket;
    this.#bytes = rest;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('close', () => this.destroy());
  }

  async ended(): Promise<number> {
    if (this.closeCode === 0) await once(this, 'end');
    return this.closeCode;
  }

  override _read(): void {
    // pushed as it comes
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    for (let at = 0; at < chunk.length; at += 65_535) {
      this.#socket.write(clientFrame(Opcode.binary, chunk.subarray(at, at + 65_535)));
    }
    done();
  }

  #take(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 2) {
      const opcode = this.#bytes.readUInt8(0) & 0x0f;
      const short = this.#bytes.readUInt8(1);
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (this.#bytes.length < head) return;
      const length = short < 126 ? short : this.#bytes.readUIntBE(head === 4 ? 2 : 4, head === 4 ? 2 : 6);
      if (this.#bytes.length < head + length) return;
      const payload = this.#bytes.subarray(head, head + length);
      this.#bytes = this.#bytes.subarray(head + length);
      if (opcode === Opcode.binary) this.push(payload);
      if (opcode !== Opcode.close) continue;
      this.closeCode = payload.readUInt16BE(0);
      this.push(null);
      this.#socket.end(clientFrame(Opcode.close, payload));
    }
  }
}
