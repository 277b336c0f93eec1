import { randomInt } from 'node:crypto';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';
import { CaissonError } from '../../lib/errors.ts';
import {
  ADDRESS_BYTES,
  AF_VSOCK,
  CID_ANY,
  encodeAddress,
  LAST_PRIVILEGED_PORT,
  type VsockAddress,
} from '../../lib/vsock-address.ts';

const { EACCES, EADDRINUSE, EINPROGRESS } = constants.errno;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;
const SO_VM_SOCKETS_BUFFER_SIZE = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE = 2;
/** as in the guest: guest-agent/src/vsock-listener.ts */
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const POLLOUT = 4;

/** Lower ones are left to services of the host. */
const FIRST_PORT = 128;
const PORTS = LAST_PRIVILEGED_PORT - FIRST_PORT + 1;

/** Loaded at the first dial: hosts without vhost-vsock need none of it. */
let loaded: ReturnType<typeof load> | undefined;
const library = (): ReturnType<typeof load> => (loaded ??= load());

function load() {
  const libc = koffi.load('libc.so.6');
  return {
    socket: libc.func('int socket(int domain, int type, int protocol)'),
    bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
    connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
    poll: libc.func('int poll(_Inout_ uint8_t *fds, unsigned long count, int timeout)'),
    setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
    getsockopt: libc.func(
      'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
    ),
  };
}

/**
 * The descriptor of a connected vsock stream whose own port is a privileged one. `unavailable` when the guest does not take
 * the connection.
 */
export async function connectVsock(peer: VsockAddress): Promise<number> {
  const fd = Number(library().socket(AF_VSOCK, SOCK_STREAM_NONBLOCK_CLOEXEC, 0));
  if (fd < 0) throw new CaissonError('failed_precondition', `no vsock sockets on this host: errno ${koffi.errno()}`);
  try {
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(RECEIVE_BUFFER_BYTES));
    for (const name of [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE])
      library().setsockopt(fd, AF_VSOCK, name, size, 8);
    bindPrivileged(fd);
    const errno = await connect(fd, peer);
    if (errno === 0) return fd;
    throw new CaissonError('unavailable', `vsock ${peer.cid}:${peer.port} takes no connection: ${nameOf(errno)}`);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A free port from a random one on, so that daemons of the same host seldom meet. */
function bindPrivileged(fd: number): void {
  const start = randomInt(PORTS);
  for (let step = 0; step < PORTS; step++) {
    const port = FIRST_PORT + ((start + step) % PORTS);
    if (Number(library().bind(fd, encodeAddress({ cid: CID_ANY, port }), ADDRESS_BYTES)) === 0) return;
    const errno = koffi.errno();
    if (errno === EADDRINUSE) continue;
    const hint = errno === EACCES ? 'the daemon needs CAP_NET_BIND_SERVICE' : undefined;
    throw new CaissonError('failed_precondition', `vsock port ${port} cannot be bound: ${nameOf(errno)}`, { hint });
  }
  throw new CaissonError(
    'resource_exhausted',
    `all vsock ports from ${FIRST_PORT} to ${LAST_PRIVILEGED_PORT} are taken`,
  );
}

const LONGEST_WAIT_MS = 16;

/** Returns the error's number, 0 for none. The kernel gives up after 2 s. */
async function connect(fd: number, peer: VsockAddress): Promise<number> {
  if (Number(library().connect(fd, encodeAddress(peer), ADDRESS_BYTES)) === 0) return 0;
  const errno = koffi.errno();
  if (errno !== EINPROGRESS) return errno;
  // Node has no event for a descriptor that becomes writable; most connections are made within the first millisecond
  for (let wait = 1; !isSettled(fd); wait = Math.min(wait * 2, LONGEST_WAIT_MS)) await sleep(wait);
  const error = Buffer.alloc(4);
  library().getsockopt(fd, SOL_SOCKET, SO_ERROR, error, [4]);
  return error.readInt32LE(0);
}

function isSettled(fd: number): boolean {
  const request = Buffer.alloc(8); // struct pollfd
  request.writeInt32LE(fd, 0);
  request.writeInt16LE(POLLOUT, 4);
  return Number(library().poll(request, 1, 0)) !== 0;
}

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));
const nameOf = (errno: number): string => names.get(errno) ?? `errno ${errno}`;
