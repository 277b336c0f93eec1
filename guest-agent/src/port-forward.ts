import { createConnection, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { CaissonError, describeError } from '../../src/lib/errors.ts';
import { Handing, sharedBuffer } from './process-output.ts';
import type { StreamCall } from './stream-call.ts';

/** Containers share the VM's network, so its loopback is theirs. */
const ADDRESSES = ['127.0.0.1', '::1'] as const;
const MAX_PORT = 65_535;

/** Joins the call with a TCP connection to the pod; either side may end its half first. */
export async function portForward(port: number, call: StreamCall): Promise<void> {
  if (port < 1 || port > MAX_PORT) throw new CaissonError('invalid_argument', `${port} is not a TCP port`);
  const hand = new Handing(call.outputs.STDOUT, () => socket.resume());
  using socket = await dial(port, call.left, (data) => hand.on(data));
  const leave = (): void => void socket.destroy();
  call.left.addEventListener('abort', leave, { once: true });
  void call.outputs.STDERR.end();
  call.started();
  try {
    await Promise.all([pipeline(call.input, socket), readToEnd(socket).then(() => call.outputs.STDOUT.end())]);
  } catch (error) {
    if (call.left.aborted) return;
    throw new CaissonError('unavailable', `the connection to port ${port} of the pod broke: ${describeError(error)}`, {
      cause: error,
    });
  }
  await call.endOutputs();
}

async function readToEnd(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('end', resolve).once('error', reject);
  socket.once('close', () => reject(new Error('it was closed'))); // nothing after an end
  socket.resume();
  await promise;
}

/** The connection is paused. */
async function dial(port: number, left: AbortSignal, take: (data: Buffer) => boolean): Promise<Socket & Disposable> {
  const refusals: string[] = [];
  for (const host of ADDRESSES) {
    const callback = (length: number): boolean => take(sharedBuffer.subarray(0, length));
    const onread = { buffer: sharedBuffer, callback };
    const socket = createConnection({ host, port, allowHalfOpen: true, noDelay: true, onread });
    socket.pause();
    const give = (): void => void socket.destroy(new Error('the client has left'));
    left.addEventListener('abort', give, { once: true });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve).once('error', reject);
      });
      return Object.assign(socket, { [Symbol.dispose]: () => void socket.destroy() });
    } catch (error) {
      refusals.push(describeError(error));
    } finally {
      left.removeEventListener('abort', give);
    }
  }
  throw new CaissonError('unavailable', `nobody listens on port ${port} of the pod: ${refusals.join(', ')}`);
}
