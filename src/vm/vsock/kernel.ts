import { Socket } from 'node:net';
import { CaissonError } from '../../lib/errors.ts';
import type { VsockAddress } from '../../lib/vsock-address.ts';
import { connectVsock } from './kernel-socket.ts';
import type { VsockDialer } from './relay.ts';

interface PipeHandle {
  open(fd: number): number;
}
interface PipeBinding {
  readonly Pipe: new (type: number) => PipeHandle;
  readonly constants: { readonly SOCKET: number };
}

/** The kernel keeps the port of a closed connection for 8 s when the guest does not confirm the end. */
const LINGER_MS = 10_000;
const MOST_CONNECTIONS = 32;

/**
 * Dials through the kernel's vhost-vsock. The host has fewer than a thousand privileged ports for all VMs, so one whose guest
 * breaks its connections again and again gets no more for a while.
 */
export function kernelDialer(peer: VsockAddress): VsockDialer {
  let made: number[] = [];
  return async () => {
    made = made.filter((at) => at > performance.now() - LINGER_MS);
    if (made.length >= MOST_CONNECTIONS)
      throw new CaissonError('unavailable', `vsock ${peer.cid} has broken too many connections in the last seconds`);
    const fd = await connectVsock(peer);
    made.push(performance.now());
    return wrap(fd);
  };
}

/** Node cannot wrap a vsock descriptor in net.Socket, but libuv's pipes take any stream socket. */
function wrap(fd: number): Socket {
  const binding = (process as unknown as { binding(name: string): PipeBinding }).binding('pipe_wrap');
  const handle = new binding.Pipe(binding.constants.SOCKET);
  handle.open(fd);
  // `handle` is how net makes its own sockets; the type declarations leave it out
  const options: object = { handle, readable: true, writable: true, allowHalfOpen: true };
  return new Socket(options);
}
