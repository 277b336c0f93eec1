/** Checks of a request's form. Each throws `invalid_argument` with a sentence that names the RPC and the field. */
import { isIP } from 'node:net';
import type { ImageSpec__Output } from '../../proto/generated/runtime/runtime/v1/ImageSpec.ts';
import { CaissonError } from '../lib/errors.ts';
import type { RpcContext } from './call.ts';

/** The longest delay a Node timer can wait, 24.8 days; a longer one would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export function malformed({ rpc }: RpcContext, sentence: string): CaissonError {
  return new CaissonError('invalid_argument', `${rpc}: ${sentence}`);
}

export function requireText(context: RpcContext, field: string, value: string): string {
  if (value === '') throw malformed(context, `${field} is empty`);
  return value;
}

export function requireMessage<Message>(context: RpcContext, field: string, value: Message | null): Message {
  if (value === null) throw malformed(context, `${field} is missing`);
  return value;
}

/** Returns the image's name or id. */
export function requireImage(context: RpcContext, field: string, spec: ImageSpec__Output | null): string {
  return requireText(context, `${field}.image`, requireMessage(context, field, spec).image);
}

/** Turns an int64 of seconds into `ms`, cut at what a timer can wait. */
export function requireTimeoutMs(context: RpcContext, field: string, seconds: string): number {
  const ms = Number(seconds) * 1000;
  if (ms < 0) throw malformed(context, `${field} is negative (${seconds} s)`);
  return Math.min(ms, MAX_TIMER_MS);
}

/** Translates an enum's name; a value that this version of the contract does not know arrives as a number. */
export function requireKnown<Name extends string, Value>(
  context: RpcContext,
  field: string,
  values: Readonly<Record<Name, Value>>,
  name: Name,
): Value {
  if (!Object.hasOwn(values, name)) throw malformed(context, `${field} has no value ${name}`);
  return values[name];
}

/** Accepts one network or several, separated by commas: `10.85.0.0/24,fd00::/64`. */
export function requireCidrs(context: RpcContext, field: string, value: string): string {
  const isCidr = (text: string): boolean => {
    const [, address = '', bits = ''] = /^(.+)\/(\d{1,3})$/.exec(text) ?? [];
    const family = isIP(address);
    return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128);
  };
  if (!value.split(',').every(isCidr)) {
    throw malformed(context, `${field} ${JSON.stringify(value)} is not a list of networks such as 10.85.0.0/24`);
  }
  return value;
}
