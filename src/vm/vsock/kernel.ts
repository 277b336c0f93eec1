import { constants } from 'node:os';
import { Socket } from 'node:net';
import koffi from 'koffi';
import { CaissonError } from '../../lib/errors.ts';

const AF_VSOCK = 40;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;

interface PipeHandle {
  open(fd: number): number;
}
interface PipeBinding {
  readonly Pipe: new (type: number) => PipeHandle;
  readonly constants: { readonly SOCKET: number };
}

/**
 * Dials through the kernel's vhost-vsock. Node cannot wrap a vsock descriptor in net.Socket, but libuv's pipes take
 * any stream socket; a refused connection is the socket's `error`.
 */
export async function dialKernel(cid: number, port: number): Promise<Socket> {
  const libc = koffi.load('libc.so.6');
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const connect = libc.func('int connect(int fd, const uint8_t *address, uint32_t length)');
  const fd = Number(socket(AF_VSOCK, SOCK_STREAM_NONBLOCK_CLOEXEC, 0));
  if (fd < 0) throw new CaissonError('failed_precondition', `no vsock sockets on this host: errno ${koffi.errno()}`);
  const address = Buffer.alloc(16); // struct sockaddr_vm
  address.writeUInt16LE(AF_VSOCK, 0);
  address.writeUInt32LE(port, 4);
  address.writeUInt32LE(cid, 8);
  const failed = Number(connect(fd, address, 16)) < 0 ? koffi.errno() : 0;
  const stream = wrap(fd);
  if (failed === 0 || failed === constants.errno.EINPROGRESS) return stream;
  stream.destroy();
  throw new CaissonError('unavailable', `vsock ${cid}:${port} refused the connection: errno ${failed}`);
}

function wrap(fd: number): Socket {
  const binding = (process as unknown as { binding(name: string): PipeBinding }).binding('pipe_wrap');
  const handle = new binding.Pipe(binding.constants.SOCKET);
  handle.open(fd);
  // `handle` is how net makes its own sockets; the type declarations leave it out
  const options: object = { handle, readable: true, writable: true, allowHalfOpen: true };
  return new Socket(options);
}
