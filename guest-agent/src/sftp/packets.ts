/** Messages of SFTP version 3 (draft-ietf-secsh-filexfer-02): a length, a type, then fields. */

/** as OpenSSH's own server has it */
export const MAX_PACKET_BYTES = 256 * 1024;
const LENGTH_BYTES = 4;

export class BadPacket extends Error {}

/** Cuts a byte stream into packets; throws BadPacket for one that is too long or empty. */
export class PacketCutter {
  #rest: Buffer = Buffer.alloc(0);

  /** Each is a packet without its length. */
  *push(chunk: Buffer): Generator<Buffer> {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= LENGTH_BYTES) {
      const length = bytes.readUInt32BE(0);
      if (length < 1 || length > MAX_PACKET_BYTES) throw new BadPacket(`a packet of ${length} bytes`);
      if (bytes.length < LENGTH_BYTES + length) break;
      yield bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
      bytes = bytes.subarray(LENGTH_BYTES + length);
    }
    // a copy: the chunk's memory is filled anew
    this.#rest = Buffer.from(bytes);
  }
}

/** Reads fields; throws BadPacket when there are too few. */
export class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get ended(): boolean {
    return this.#at >= this.#bytes.length;
  }

  byte(): number {
    return this.#take(1).readUInt8(0);
  }

  uint32(): number {
    return this.#take(4).readUInt32BE(0);
  }

  /** at most 2^53, which no file reaches */
  uint64(): number {
    const value = this.#take(8).readBigUInt64BE(0);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new BadPacket(`the number ${value}`);
    return Number(value);
  }

  bytes(): Buffer {
    return this.#take(this.uint32());
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new BadPacket('a packet that ends too early');
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }
}

export function byte(value: number): Buffer {
  return Buffer.from([value]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function uint64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** With its length in front. */
export function packet(...fields: readonly Buffer[]): Buffer {
  const body = Buffer.concat(fields);
  return Buffer.concat([uint32(body.length), body]);
}
