import type { StreamResponse } from '../../proto/generated/agent/caisson/agent/v1/StreamResponse.ts';
import type { StreamName } from './output.ts';

/** A StreamResponse with data, encoded already: by hand, because data is nearly all that is ever sent. */
export interface DataMessage {
  readonly encoded: Buffer;
}

export type Response = StreamResponse | DataMessage;

/** The fields' numbers in proto/agent/v1/agent.proto. */
const FIELD: Readonly<Record<StreamName, number>> = { STDOUT: 2, STDERR: 3 };
const LENGTH_DELIMITED = 2;
/** of a tag and a length of 32 bits */
const MOST_HEADER_BYTES = 6;

/** Holds a copy of `data`. */
export function dataMessage(stream: StreamName, data: Buffer): DataMessage {
  const buffer = Buffer.allocUnsafe(data.length + MOST_HEADER_BYTES);
  let at = buffer.writeUInt8((FIELD[stream] << 3) | LENGTH_DELIMITED, 0);
  let length = data.length;
  for (; length > 0x7f; length >>>= 7) at = buffer.writeUInt8((length & 0x7f) | 0x80, at);
  at = buffer.writeUInt8(length, at);
  data.copy(buffer, at);
  return { encoded: buffer.subarray(0, at + data.length) };
}

interface Method {
  readonly responseSerialize: (response: never) => Buffer;
}

/** The RPC, whose responses may be such messages. */
export function withDataMessages<M extends Method>(method: M): M {
  const serialize = method.responseSerialize as (response: object) => Buffer;
  const responseSerialize = (response: object): Buffer =>
    'encoded' in response ? (response as DataMessage).encoded : serialize(response);
  return { ...method, responseSerialize };
}
