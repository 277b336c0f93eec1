/**
 * `caisson ssh-proxy` may say in a line before the protocol which target its client means, so that
 * `ssh web.default.caisson` works, whose user name says nothing. It chooses like a user name, and proves nothing.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { CaissonError } from '../lib/errors.ts';

const BEGIN = 'CAISSON-TARGET ';
const MAX_BYTES = 512;
const NEWLINE = 0x0a;

export const preambleOf = (target: string): string => `${BEGIN}${target}\n`;

/** Takes the line off the socket, if there is one. `invalid_argument` for one without end, `cancelled` if none comes. */
export async function takePreamble(socket: Socket): Promise<string | undefined> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const more = await nextBytes(socket);
    bytes = Buffer.concat([bytes, more]);
    const known = bytes.subarray(0, BEGIN.length).toString('latin1');
    if (!BEGIN.startsWith(known)) {
      socket.unshift(bytes);
      return undefined;
    }
    const end = bytes.indexOf(NEWLINE);
    if (end >= 0) {
      if (end + 1 < bytes.length) socket.unshift(bytes.subarray(end + 1));
      return bytes.toString('utf8', BEGIN.length, end);
    }
    if (bytes.length > MAX_BYTES) throw new CaissonError('invalid_argument', 'the line with the target has no end');
  }
}

async function nextBytes(socket: Socket): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read() as Buffer | null;
    if (bytes) return bytes;
    if (socket.readableEnded || socket.destroyed) throw new CaissonError('cancelled', 'the client has left');
    await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]);
  }
}
