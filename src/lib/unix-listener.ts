import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { CaissonError } from './errors.ts';

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const MAX_PATH_BYTES = 107;

/** A listening unix socket for another process to accept on; the path stays when it is disposed. */
export interface UnixListener extends Disposable {
  readonly fd: number;
}

/** Whoever connects from now on waits until the process that gets the descriptor accepts. */
export function listenUnix(path: string): UnixListener {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new CaissonError('failed_precondition', `${path} is too long for a unix socket (${MAX_PATH_BYTES} bytes)`, {
      hint: 'choose a shorter state directory',
    });
  }
  const libc = koffi.load('libc.so.6');
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const bind = libc.func('int bind(int fd, const uint8_t *address, uint32_t length)');
  const listen = libc.func('int listen(int fd, int backlog)');
  const fd = Number(socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0));
  if (fd < 0) throw new CaissonError('resource_exhausted', `no socket: errno ${koffi.errno()}`);
  const address = Buffer.alloc(110); // struct sockaddr_un
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2);
  if (Number(bind(fd, address, address.length)) < 0 || Number(listen(fd, 1)) < 0) {
    const errno = koffi.errno();
    closeSync(fd);
    throw new CaissonError('internal', `cannot listen on ${path}: errno ${errno}`);
  }
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}
