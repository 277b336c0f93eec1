/**
 * Header blocks: 32 bits count, then length and text of each name and value, all through one zlib stream per direction
 * that is flushed (Z_SYNC_FLUSH) after each block.
 */
import { constants, inflateRawSync } from 'node:zlib';
import { CaissonError, isErrno } from '../../lib/errors.ts';
import { HEADER_DICTIONARY, HEADER_DICTIONARY_ID } from './dictionary.ts';

/** `bytes` of a block, unpacked; Kubernetes' are some tens */
const MAX_BLOCK_BYTES = 16 * 1024;
const MAX_HEADERS = 64;
/** how far deflate looks back */
const WINDOW_BYTES = 32 * 1024;
const ZLIB_HEADER_BYTES = 6;
const DEFLATE_METHOD = 8;
const PRESET_DICTIONARY_FLAG = 0x20;

/** Unpacks one connection's blocks, in their order. Throws `invalid_argument` for one that is malformed or too large. */
export class HeaderDecoder {
  /** what the next block may refer to; unpacking with it needs no inflater that lives as long as the connection */
  #window = HEADER_DICTIONARY;
  #started = false;

  decode(block: Buffer): ReadonlyMap<string, string> {
    const plain = this.#inflate(this.#started ? block : withoutZlibHeader(block));
    this.#started = true;
    this.#window = Buffer.concat([this.#window, plain]).subarray(-WINDOW_BYTES);
    return parseHeaders(plain);
  }

  #inflate(deflated: Buffer): Buffer {
    try {
      return inflateRawSync(deflated, {
        dictionary: this.#window,
        finishFlush: constants.Z_SYNC_FLUSH,
        maxOutputLength: MAX_BLOCK_BYTES,
      });
    } catch (error) {
      if (isErrno(error, 'ERR_BUFFER_TOO_LARGE')) throw malformed(`is over ${MAX_BLOCK_BYTES} bytes`, error);
      throw malformed('cannot be decompressed', error);
    }
  }
}

/** Packs one connection's blocks, in their order, without a compressor: what is said here is short. */
export class HeaderEncoder {
  #started = false;

  /** A stored block, then the empty one of Z_SYNC_FLUSH. */
  encode(headers: Readonly<Record<string, string>> = {}): Buffer {
    const plain = plainHeaders(headers);
    const stored = Buffer.from([0x00, 0, 0, 0, 0]);
    stored.writeUInt16LE(plain.length, 1);
    stored.writeUInt16LE(plain.length ^ 0xff_ff, 3);
    const block = Buffer.concat([stored, plain, Buffer.from([0x00, 0x00, 0x00, 0xff, 0xff])]);
    if (this.#started) return block;
    this.#started = true;
    const zlibHeader = Buffer.from([0x78, 0xbb, 0, 0, 0, 0]);
    zlibHeader.writeUInt32BE(HEADER_DICTIONARY_ID, 2);
    return Buffer.concat([zlibHeader, block]);
  }
}

/** Names and values are ASCII. */
function plainHeaders(headers: Readonly<Record<string, string>>): Buffer {
  const entries = Object.entries(headers);
  const number = (value: number): Buffer => {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const texts = entries.flat().flatMap((text) => [number(text.length), Buffer.from(text, 'latin1')]);
  return Buffer.concat([number(entries.length), ...texts]);
}

/** The stream's first block: method, a flag for the dictionary, and which one. */
function withoutZlibHeader(block: Buffer): Buffer {
  if (block.length < ZLIB_HEADER_BYTES) throw malformed('is cut short');
  const method = block.readUInt8(0) & 0x0f;
  const flagged = (block.readUInt8(1) & PRESET_DICTIONARY_FLAG) !== 0;
  if (method !== DEFLATE_METHOD || block.readUInt16BE(0) % 31 !== 0) throw malformed('is not zlib data');
  if (!flagged || block.readUInt32BE(2) !== HEADER_DICTIONARY_ID) throw malformed("lacks SPDY/3's dictionary");
  return block.subarray(ZLIB_HEADER_BYTES);
}

function parseHeaders(plain: Buffer): ReadonlyMap<string, string> {
  let at = 0;
  const number = (): number => {
    if (at + 4 > plain.length) throw malformed('is cut short');
    at += 4;
    return plain.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const end = number() + at;
    if (end > plain.length) throw malformed('is cut short');
    const value = plain.toString('latin1', at, end);
    at = end;
    return value;
  };
  const count = number();
  if (count > MAX_HEADERS) throw malformed(`has over ${MAX_HEADERS} headers`);
  const headers = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const name = text().toLowerCase();
    if (headers.has(name)) throw malformed('has a header twice');
    headers.set(name, text());
  }
  if (at !== plain.length) throw malformed('has bytes behind its last header');
  return headers;
}

function malformed(problem: string, cause?: unknown): CaissonError {
  return new CaissonError('invalid_argument', `a SPDY header block ${problem}`, { cause });
}
