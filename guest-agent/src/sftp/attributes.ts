import type { Stats } from 'node:fs';
import { type Fields, uint32, uint64 } from './packets.ts';

const SIZE = 1;
const OWNER = 2;
const PERMISSIONS = 4;
const TIMES = 8;
const EXTENDED = 0x80000000;

/** What a client wants to be so. */
export interface Attributes {
  readonly size?: number;
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly mode?: number;
  /** seconds */
  readonly times?: { readonly accessed: number; readonly modified: number };
}

const MODE_BITS = 0o7777;

export function readAttributes(fields: Fields): Attributes {
  const flags = fields.uint32();
  const size = flags & SIZE ? { size: fields.uint64() } : {};
  const owner = flags & OWNER ? { owner: { uid: fields.uint32(), gid: fields.uint32() } } : {};
  const mode = flags & PERMISSIONS ? { mode: fields.uint32() & MODE_BITS } : {};
  const times = flags & TIMES ? { times: { accessed: fields.uint32(), modified: fields.uint32() } } : {};
  if (flags & EXTENDED) {
    // in pairs, which nobody knows
    for (let count = fields.uint32(); count > 0; count--) [fields.bytes(), fields.bytes()].at(0);
  }
  return { ...size, ...owner, ...mode, ...times };
}

export function attributes({ size, uid, gid, mode, atimeMs, mtimeMs }: Stats): Buffer {
  const fields = [uint64(size), uint32(uid), uint32(gid), uint32(mode), seconds(atimeMs), seconds(mtimeMs)];
  return Buffer.concat([uint32(SIZE | OWNER | PERMISSIONS | TIMES), ...fields]);
}

const seconds = (ms: number): Buffer => uint32(Math.min(Math.max(Math.floor(ms / 1000), 0), 2 ** 32 - 1));

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const TYPES: Readonly<Record<number, string>> = {
  0o140000: 's',
  0o120000: 'l',
  0o100000: '-',
  0o060000: 'b',
  0o040000: 'd',
  0o020000: 'c',
  0o010000: 'p',
};

/** As `ls -ln` prints it: clients show it as it is. */
export function longName(name: Buffer, { mode, nlink, uid, gid, size, mtimeMs }: Stats): Buffer {
  const bits = 'rwxrwxrwx'
    .split('')
    .map((letter, i) => (mode & (0o400 >> i) ? letter : '-'))
    .join('');
  const type = TYPES[mode & 0o170000] ?? '?';
  const time = new Date(mtimeMs);
  const two = (value: number): string => String(value).padStart(2, '0');
  const when = `${MONTHS[time.getUTCMonth()]} ${two(time.getUTCDate())} ${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
  const columns = [`${type}${bits}`, String(nlink).padStart(4), owner(uid), owner(gid), String(size).padStart(8), when];
  return Buffer.concat([Buffer.from(`${columns.join(' ')} `), name]);
}

const owner = (id: number): string => String(id).padEnd(8);
