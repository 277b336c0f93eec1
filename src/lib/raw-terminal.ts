import koffi from 'koffi';
import { CaissonError } from './errors.ts';

const libc = koffi.load('libc.so.6');
const tcgetattr = libc.func('int tcgetattr(int fd, _Out_ uint8_t *termios)');
const tcsetattr = libc.func('int tcsetattr(int fd, int when, uint8_t *termios)');
const cfmakeraw = libc.func('void cfmakeraw(_Inout_ uint8_t *termios)');

/** `bytes` of struct termios on x86-64 and arm64: 60 */
const TERMIOS_BYTES = 64;
const TCSADRAIN = 1;

/**
 * Bytes pass a terminal as they are, both ways, until the returned handle is disposed of. Node's own raw mode still
 * makes CR LF of each LF, which full-screen programs at the other end of a stream do not expect.
 */
export function makeRaw(fd: number): Disposable {
  const before = Buffer.alloc(TERMIOS_BYTES);
  if (tcgetattr(fd, before) !== 0) throw new CaissonError('internal', `descriptor ${fd} is no terminal`);
  const raw = Buffer.from(before);
  cfmakeraw(raw);
  const set = (termios: Buffer): void => void tcsetattr(fd, TCSADRAIN, termios);
  set(raw);
  return { [Symbol.dispose]: () => set(before) };
}
