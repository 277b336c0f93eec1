import { CaissonError } from '../../lib/errors.ts';
import { FLAG_FIN, FRAME_HEADER_BYTES, FrameType, MAX_STREAM_ID, type ControlFrame } from './frames.ts';
import { HeaderDecoder } from './headers.ts';

/** `bytes`; none that Kubernetes sends is over a few hundred */
const MAX_CONTROL_PAYLOAD = 16 * 1024;
const VERSION = 3;

/** What a parser finds, in order. */
export interface FrameHandler {
  /** part of a data frame's payload, as it arrives; a view of what was pushed */
  data(streamId: number, chunk: Buffer): void;
  /** after the last byte of a data frame with FIN */
  dataEnd(streamId: number): void;
  control(frame: ControlFrame): void;
}

/**
 * Cuts a client's bytes into frames, however they were cut on their way. Holds a control frame at most, of bounded
 * size. Throws `invalid_argument` for what is no SPDY/3.1; no further byte makes sense then.
 */
export class FrameParser {
  readonly #handler: FrameHandler;
  readonly #headers = new HeaderDecoder();
  /** a frame's header or a control frame's payload, as far as it has come */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #head: FrameHead | undefined;
  /** of a data frame's payload: `bytes` still to come */
  #dataLeft = 0;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  push(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) rest = this.#take(rest);
  }

  /** Consumes at least a byte; returns what is left. */
  #take(chunk: Buffer): Buffer {
    const head = this.#head;
    if (head !== undefined && !head.isControl) return this.#takeData(head, chunk);
    const wanted = head === undefined ? FRAME_HEADER_BYTES : head.length;
    const part = chunk.subarray(0, wanted - this.#heldBytes);
    this.#held.push(part);
    this.#heldBytes += part.length;
    if (this.#heldBytes === wanted) this.#complete(head, this.#release());
    return chunk.subarray(part.length);
  }

  #release(): Buffer {
    const [only] = this.#held;
    const whole = this.#held.length === 1 && only ? only : Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    return whole;
  }

  #complete(head: FrameHead | undefined, bytes: Buffer): void {
    if (head?.isControl) {
      this.#head = undefined;
      this.#handler.control(this.#control(head, bytes));
      return;
    }
    const next = readHead(bytes);
    if (next.isControl) {
      if (next.version !== VERSION) throw malformed(`a frame of version ${next.version}`);
      if (next.length > MAX_CONTROL_PAYLOAD) throw malformed(`a control frame of ${next.length} bytes`);
      this.#head = next;
      if (next.length === 0) this.#complete(next, bytes.subarray(0, 0));
      return;
    }
    if (next.streamId === 0) throw malformed('data of stream 0');
    this.#head = next;
    this.#dataLeft = next.length;
    if (next.length === 0) this.#endData(next);
  }

  #takeData(head: DataHead, chunk: Buffer): Buffer {
    const part = chunk.subarray(0, this.#dataLeft);
    this.#dataLeft -= part.length;
    this.#handler.data(head.streamId, part);
    if (this.#dataLeft === 0) this.#endData(head);
    return chunk.subarray(part.length);
  }

  #endData({ streamId, flags }: DataHead): void {
    this.#head = undefined;
    if ((flags & FLAG_FIN) !== 0) this.#handler.dataEnd(streamId);
  }

  #control({ type, flags }: ControlHead, payload: Buffer): ControlFrame {
    const fin = (flags & FLAG_FIN) !== 0;
    switch (type) {
      case FrameType.synStream: {
        const streamId = idAt(payload, 0, 10);
        return { type: 'synStream', streamId, fin, headers: this.#headers.decode(payload.subarray(10)) };
      }
      case FrameType.synReply:
      case FrameType.headers: {
        const streamId = idAt(payload, 0, 4);
        // unpacked all the same: the next block refers to it
        this.#headers.decode(payload.subarray(4));
        return { type: type === FrameType.headers ? 'headers' : 'synReply', streamId, fin };
      }
      case FrameType.rstStream:
        return { type: 'rstStream', streamId: idAt(payload, 0, 8), status: payload.readUInt32BE(4) };
      case FrameType.ping:
        return { type: 'ping', id: wordAt(payload, 0, 4) };
      case FrameType.goAway:
        return { type: 'goAway', lastGoodStreamId: wordAt(payload, 0, 4) & MAX_STREAM_ID };
      case FrameType.settings:
      case FrameType.windowUpdate:
        return { type: 'other' };
      default:
        throw malformed(`a control frame of type ${type}`);
    }
  }
}

interface ControlHead {
  readonly isControl: true;
  readonly version: number;
  readonly type: number;
  readonly flags: number;
  readonly length: number;
}

interface DataHead {
  readonly isControl: false;
  readonly streamId: number;
  readonly flags: number;
  readonly length: number;
}

type FrameHead = ControlHead | DataHead;

function readHead(bytes: Buffer): FrameHead {
  const first = bytes.readUInt32BE(0);
  const flags = bytes.readUInt8(4);
  const length = bytes.readUIntBE(5, 3);
  if (first <= MAX_STREAM_ID) return { isControl: false, streamId: first, flags, length };
  return { isControl: true, version: (first >>> 16) & 0x7fff, type: first & 0xffff, flags, length };
}

function wordAt(payload: Buffer, at: number, least: number): number {
  if (payload.length < least) throw malformed(`a control frame of ${payload.length} bytes`);
  return payload.readUInt32BE(at);
}

function idAt(payload: Buffer, at: number, least: number): number {
  const streamId = wordAt(payload, at, least) & MAX_STREAM_ID;
  if (streamId === 0) throw malformed('a control frame of stream 0');
  return streamId;
}

function malformed(what: string): CaissonError {
  return new CaissonError('invalid_argument', `the client sent ${what}, which is not SPDY/3.1`);
}
