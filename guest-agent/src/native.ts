/** The system calls that Node lacks, by koffi. All throw an Error with `code` (such as `ENOENT`) when they fail. */
import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { constants } from 'node:os';
import {
  ADDRESS_BYTES,
  AF_VSOCK,
  CID_ANY,
  decodeAddress,
  encodeAddress,
  type VsockAddress,
} from '../../src/lib/vsock-address.ts';

const libc = koffi.load('libc.so.6');
const c = {
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
  getpeername: libc.func('int getpeername(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  accept4: libc.func('int accept4(int fd, void *address, void *length, int flags)'),
  recvmsg: libc.func('long recvmsg(int fd, uint8_t *message, int flags)'),
  ioctl: libc.func('int ioctl(int fd, unsigned long request, const uint8_t *argument)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
  pipe2: libc.func('int pipe2(uint8_t *fds, int flags)'),
  fcntl: libc.func('fcntl', 'int', ['int', 'int', 'long']),
  mount: libc.func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: libc.func('int umount2(const char *target, int flags)'),
  waitid: libc.func('int waitid(int idtype, uint32_t id, uint8_t *info, int options)'),
  sethostname: libc.func('int sethostname(const char *name, size_t length)'),
  open_tree: libc.func('syscall', 'long', ['long', 'int', 'str', 'uint']),
  move_mount: libc.func('syscall', 'long', ['long', 'int', 'str', 'int', 'str', 'uint']),
  mount_setattr: libc.func('syscall', 'long', ['long', 'int', 'str', 'uint', 'uint8_t *', 'size_t']),
  clock_settime: libc.func('int clock_settime(int clock, const uint8_t *time)'),
  madvise: libc.func('int madvise(uintptr_t start, size_t length, int advice)'),
  bpf: libc.func('syscall', 'long', ['long', 'int', 'uint8_t *', 'uint']),
  adjtime: libc.func('int adjtime(const uint8_t *delta, uint8_t *left)'),
};

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** An error as Node's own of system calls: `code` is such as `ENOENT`. */
export function systemError(syscall: string, errno: number): Error {
  const code = errnoNames.get(errno) ?? `errno ${errno}`;
  return Object.assign(new Error(`${syscall}: ${code}`), { code, syscall });
}

function check(syscall: string, result: number | bigint): number {
  const value = Number(result);
  if (value >= 0) return value;
  throw systemError(syscall, koffi.errno());
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SO_VM_SOCKETS_BUFFER_SIZE = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE = 2;

/** A bound, not yet listening, non-blocking vsock socket whose connections get `bufferBytes` of receive credit. */
export function vsockSocket(port: number, bufferBytes: number): number {
  const fd = check('socket', c.socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(bufferBytes));
  // accepted sockets inherit them from the listener
  check('setsockopt', c.setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, size, 8));
  check('setsockopt', c.setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, size, 8));
  check('bind', c.bind(fd, encodeAddress({ cid: CID_ANY, port }), ADDRESS_BYTES));
  return fd;
}

/** Who is at the other end of a connected vsock socket. */
export function vsockPeer(fd: number): VsockAddress {
  const address = Buffer.alloc(ADDRESS_BYTES);
  check('getpeername', c.getpeername(fd, address, [ADDRESS_BYTES]));
  return decodeAddress(address);
}

/** A listening unix socket, for crun to send a terminal to. */
export function unixListener(path: string): number {
  const fd = check('socket', c.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2, 107);
  check('bind', c.bind(fd, address, 110));
  check('listen', c.listen(fd, 1));
  return fd;
}

/** The file descriptor that a peer which has already connected and sent one left in `listener`. Never blocks. */
export function receiveFd(listener: number): { readonly connection: number; readonly fd: number } {
  const connection = check('accept4', c.accept4(listener, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const data = Buffer.alloc(4096);
  const control = Buffer.alloc(64);
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(koffi.address(data), 0);
  vector.writeBigUInt64LE(BigInt(data.length), 8);
  const message = Buffer.alloc(56); // struct msghdr
  message.writeBigUInt64LE(koffi.address(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(koffi.address(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  const MSG_CMSG_CLOEXEC = 0x40000000;
  check('recvmsg', c.recvmsg(connection, message, MSG_CMSG_CLOEXEC));
  const SCM_RIGHTS = 1;
  if (control.readBigUInt64LE(0) < 20n || control.readInt32LE(12) !== SCM_RIGHTS)
    throw new Error('recvmsg: no descriptor came');
  return { connection, fd: control.readInt32LE(16) };
}

/** A real pipe: Node's own are socket pairs, which `/dev/stdout` cannot be opened on. */
export function pipe(): { readonly read: number; readonly write: number } {
  const fds = Buffer.alloc(8);
  check('pipe2', c.pipe2(fds, SOCK_CLOEXEC));
  return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) };
}

/** Reading from it throws EAGAIN when there is nothing yet. */
export function setNonBlocking(fd: number): void {
  const F_SETFL = 4;
  check('fcntl', c.fcntl(fd, F_SETFL, SOCK_NONBLOCK));
}

/** How much a pipe holds before its writer waits; 64 KiB by default. */
export function setPipeSize(fd: number, bytes: number): void {
  const F_SETPIPE_SZ = 1031;
  check('fcntl', c.fcntl(fd, F_SETPIPE_SZ, bytes));
}

/** `fd`: the master of a terminal. The foreground processes get SIGWINCH. */
export function setTerminalSize(fd: number, columns: number, rows: number): void {
  const TIOCSWINSZ = 0x5414;
  const size = Buffer.alloc(8); // struct winsize
  size.writeUInt16LE(rows, 0);
  size.writeUInt16LE(columns, 2);
  check('ioctl', c.ioctl(fd, TIOCSWINSZ, size));
}

export const mountFlags = {
  readOnly: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  remount: 32,
  bind: 4096,
  recursive: 16384,
  private: 1 << 18,
};

export function mount(source: string, target: string, type: string, flags: number, data: string): void {
  const syscall = `mount of ${source} on ${target}`;
  check(syscall, c.mount(source, target, type, flags, data));
}

/** A bind mount of `source` whose files' owners are mapped as a user namespace maps ids. */
export function mountMapped(source: string, target: string, userNamespace: number): void {
  const [SYS_open_tree, SYS_move_mount, SYS_mount_setattr] = [428, 429, 442];
  const AT_FDCWD = -100;
  const AT_EMPTY_PATH = 0x1000;
  const OPEN_TREE_CLONE = 1;
  const MOVE_MOUNT_F_EMPTY_PATH = 4;
  const MOUNT_ATTR_IDMAP = 0x10_0000n;
  const attributes = Buffer.alloc(32); // struct mount_attr
  attributes.writeBigUInt64LE(MOUNT_ATTR_IDMAP, 0);
  attributes.writeBigUInt64LE(BigInt(userNamespace), 24);
  const tree = check('open_tree', c.open_tree(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | SOCK_CLOEXEC));
  try {
    const set = c.mount_setattr(SYS_mount_setattr, tree, '', AT_EMPTY_PATH, attributes, attributes.length);
    check(`mount_setattr of ${source}`, set);
    const moved = c.move_mount(SYS_move_mount, tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
    check(`move_mount on ${target}`, moved);
  } finally {
    closeSync(tree);
  }
}

/** Detaches at once, whoever still uses it; a target that is not mounted is no error. */
export function unmount(target: string): void {
  const MNT_DETACH = 2;
  const UMOUNT_NOFOLLOW = 8;
  try {
    check(`unmount of ${target}`, c.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW));
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'EINVAL' || error.code === 'ENOENT')) return;
    throw error;
  }
}

/** How a process ended. */
export interface ProcessEnd {
  /** 128 + n when killed by signal n */
  readonly code: number;
  /** the signal that killed it, else 0 */
  readonly signal: number;
}

export interface ChildExit extends ProcessEnd {
  readonly pid: number;
}

const P_ALL = 0;
const P_PID = 1;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x01000000;

/** The first ended child, which stays a zombie; undefined when there is none. */
export function peekExited(): ChildExit | undefined {
  return waitChild(P_ALL, 0, WNOHANG | WEXITED | WNOWAIT);
}

/** Reaps one child of ours that has ended. */
export function reap(pid: number): ChildExit | undefined {
  return waitChild(P_PID, pid, WNOHANG | WEXITED);
}

function waitChild(idType: number, id: number, options: number): ChildExit | undefined {
  const info = Buffer.alloc(128); // siginfo_t: si_code at 8, si_pid at 16, si_status at 24
  const result = c.waitid(idType, id, info, options);
  // no error is made for what is usual: it would have a stack trace
  if (result < 0 && koffi.errno() === constants.errno.ECHILD) return undefined;
  check('waitid', result);
  const pid = info.readInt32LE(16);
  if (pid === 0) return undefined;
  const CLD_EXITED = 1;
  const status = info.readInt32LE(24);
  const exited = info.readInt32LE(8) === CLD_EXITED;
  return { pid, code: exited ? status : 128 + status, signal: exited ? 0 : status };
}

export function setHostname(name: string): void {
  check('sethostname', c.sethostname(name, Buffer.byteLength(name)));
}

export function setRealTime(ns: bigint): void {
  const time = Buffer.alloc(16);
  time.writeBigInt64LE(ns / 1_000_000_000n, 0);
  time.writeBigInt64LE(ns % 1_000_000_000n, 8);
  check('clock_settime', c.clock_settime(0, time));
}

/** Lets the real-time clock run faster or slower, by half a millisecond a second, until it has gained `ns`. */
export function slewRealTime(ns: bigint): void {
  const delta = Buffer.alloc(16); // struct timeval; microseconds may be negative
  const us = ns / 1000n;
  delta.writeBigInt64LE(us / 1_000_000n, 0);
  delta.writeBigInt64LE(us % 1_000_000n, 8);
  check('adjtime', c.adjtime(delta, null));
}

const MADV_PAGEOUT = 21;

/** Lets the kernel take back the pages of this range of our own memory: of a file, they are read again when needed. */
export function pageOut(start: number, length: number): void {
  check('madvise', c.madvise(start, length, MADV_PAGEOUT));
}

const SYS_bpf = 321;
const BPF_ATTRIBUTES_BYTES = 128; // of union bpf_attr what these commands use, and more
const BPF_PROG_TYPE_CGROUP_DEVICE = 15;

/** Has the kernel check a program that decides about devices; returns its descriptor. */
export function loadDeviceProgram(instructions: Buffer): number {
  const BPF_PROG_LOAD = 5;
  const license = Buffer.from('MIT\0');
  const attributes = Buffer.alloc(BPF_ATTRIBUTES_BYTES);
  attributes.writeUInt32LE(BPF_PROG_TYPE_CGROUP_DEVICE, 0);
  attributes.writeUInt32LE(instructions.length / 8, 4);
  attributes.writeBigUInt64LE(koffi.address(instructions), 8);
  attributes.writeBigUInt64LE(koffi.address(license), 16);
  return check('bpf: load', c.bpf(SYS_bpf, BPF_PROG_LOAD, attributes, attributes.length));
}

/** `cgroup`: a descriptor of its directory. Programs of the cgroups above it decide, too. */
export function attachDeviceProgram(program: number, cgroup: number): void {
  const BPF_PROG_ATTACH = 8;
  const BPF_CGROUP_DEVICE = 6;
  const BPF_F_ALLOW_MULTI = 2;
  const attributes = Buffer.alloc(BPF_ATTRIBUTES_BYTES);
  for (const [index, value] of [cgroup, program, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI].entries())
    attributes.writeUInt32LE(value, index * 4);
  check('bpf: attach', c.bpf(SYS_bpf, BPF_PROG_ATTACH, attributes, attributes.length));
}
