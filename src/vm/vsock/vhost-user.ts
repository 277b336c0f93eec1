import { connect, type Socket } from 'node:net';
import { withTimeout } from '../../lib/async.ts';
import { CaissonError } from '../../lib/errors.ts';
import { requireSocketOf } from '../../lib/unix-socket.ts';

const HANDSHAKE_TIMEOUT_MS = 5000;
const MAX_ANSWER_BYTES = 32;

/**
 * Dials through vhost-device-vsock's unix socket: `CONNECT <port>\n` is answered by `OK <port>\n`, or by a closed
 * connection when nobody listens in the guest.
 */
export async function dialVhostUser(path: string, port: number, owner: number): Promise<Socket> {
  await requireSocketOf(path, owner);
  const socket = connect({ path, allowHalfOpen: true });
  try {
    await withTimeout(handshake(socket, port), HANDSHAKE_TIMEOUT_MS, `an answer from vsock port ${port}`);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function handshake(socket: Socket, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const closed = (): void =>
    reject(new CaissonError('unavailable', `nobody listens on vsock port ${port} in the guest`));
  let answer = '';
  const read = (): void => {
    // byte by byte, so that nothing behind the line is taken from the stream
    for (let byte = socket.read(1) as Buffer | null; byte !== null; byte = socket.read(1) as Buffer | null) {
      answer += byte.toString('latin1');
      if (answer.endsWith('\n')) return answer.startsWith('OK ') ? done() : closed();
      if (answer.length > MAX_ANSWER_BYTES) return closed();
    }
  };
  const done = (): void => {
    socket.off('readable', read).off('close', closed).off('end', closed).off('error', reject);
    resolve();
  };
  socket.on('readable', read).once('close', closed).once('end', closed).once('error', reject);
  socket.write(`CONNECT ${port}\n`);
  return promise;
}
