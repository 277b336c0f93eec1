import { createConnection, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { CaissonError, describeError } from '../../src/lib/errors.ts';
import type { StreamCall } from './stream-call.ts';

/** Containers share the VM's network, so its loopback is theirs. */
const ADDRESSES = ['127.0.0.1', '::1'] as const;
const MAX_PORT = 65_535;

/** Joins the call with a TCP connection to the pod; either side may end its half first. */
export async function portForward(port: number, call: StreamCall): Promise<void> {
  if (port < 1 || port > MAX_PORT) throw new CaissonError('invalid_argument', `${port} is not a TCP port`);
  using socket = await dial(port, call.left);
  const leave = (): void => void socket.destroy();
  call.left.addEventListener('abort', leave, { once: true });
  call.outputs.STDERR.end();
  call.started();
  try {
    await Promise.all([pipeline(call.input, socket), pipeline(socket, call.outputs.STDOUT)]);
  } catch (error) {
    if (call.left.aborted) return;
    throw new CaissonError('unavailable', `the connection to port ${port} of the pod broke: ${describeError(error)}`, {
      cause: error,
    });
  }
  await call.endOutputs();
}

async function dial(port: number, left: AbortSignal): Promise<Socket & Disposable> {
  const refusals: string[] = [];
  for (const host of ADDRESSES) {
    const socket = createConnection({ host, port, allowHalfOpen: true, noDelay: true });
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
