/**
 * SPDY/3.1 frames, as much of them as Kubernetes' clients use. Numbers are big endian.
 *
 *   control  |1| version 15 | type 16 | flags 8 | length 24 | payload
 *   data     |0| stream 31            | flags 8 | length 24 | payload
 */

export const FRAME_HEADER_BYTES = 8;
export const MAX_DATA_BYTES = 0xff_ff_ff;
export const MAX_STREAM_ID = 0x7f_ff_ff_ff;
const CONTROL_AND_VERSION = 0x8003;

export const FrameType = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;

export const FLAG_FIN = 1;

/** of RST_STREAM */
export const ResetStatus = {
  protocolError: 1,
  refusedStream: 3,
  cancel: 5,
} as const;
export type ResetStatus = (typeof ResetStatus)[keyof typeof ResetStatus];

/** of GOAWAY */
export const GoAwayStatus = { ok: 0, protocolError: 1 } as const;
export type GoAwayStatus = (typeof GoAwayStatus)[keyof typeof GoAwayStatus];

/** Control frames with what is used of them; types that change nothing here are `other`. */
export type ControlFrame =
  | {
      readonly type: 'synStream';
      readonly streamId: number;
      readonly fin: boolean;
      /** by lower-case name */
      readonly headers: ReadonlyMap<string, string>;
    }
  | { readonly type: 'synReply' | 'headers'; readonly streamId: number; readonly fin: boolean }
  | { readonly type: 'rstStream'; readonly streamId: number; readonly status: number }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goAway'; readonly lastGoodStreamId: number }
  | { readonly type: 'other' };

/** What goes in front of `length` bytes of data. */
export function dataHeader(streamId: number, length: number, fin: boolean): Buffer {
  const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  header.writeUInt32BE(streamId, 0);
  header.writeUInt32BE(((fin ? FLAG_FIN : 0) << 24) | length, 4);
  return header;
}

export function controlFrame(type: number, flags: number, payload: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt16BE(CONTROL_AND_VERSION, 0);
  frame.writeUInt16BE(type, 2);
  frame.writeUInt32BE((flags << 24) | payload.length, 4);
  payload.copy(frame, FRAME_HEADER_BYTES);
  return frame;
}

/** `headerBlock`: packed. No stream has an associated one or a priority. */
export function synStream(streamId: number, headerBlock: Buffer): Buffer {
  return controlFrame(FrameType.synStream, 0, Buffer.concat([words(streamId, 0), Buffer.alloc(2), headerBlock]));
}

/** `headerBlock`: packed. */
export function synReply(streamId: number, headerBlock: Buffer): Buffer {
  return controlFrame(FrameType.synReply, 0, Buffer.concat([words(streamId), headerBlock]));
}

export function rstStream(streamId: number, status: ResetStatus): Buffer {
  return controlFrame(FrameType.rstStream, 0, words(streamId, status));
}

export function ping(id: number): Buffer {
  return controlFrame(FrameType.ping, 0, words(id));
}

/** `lastGoodStreamId`: the highest one that was accepted. */
export function goAway(lastGoodStreamId: number, status: GoAwayStatus): Buffer {
  return controlFrame(FrameType.goAway, 0, words(lastGoodStreamId, status));
}

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, index * 4);
  return bytes;
}
