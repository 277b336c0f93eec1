import { connect, type Socket } from 'node:net';
import { isErrno } from './errors.ts';
import { waitForPath } from './wait-for-path.ts';

const BIND_TO_LISTEN_MS = 5;

/**
 * Connects to the unix socket that another process is about to make. Its path appears at bind, a moment before it
 * listens, and there is no event for the latter.
 */
export async function connectWhenReady(path: string, signal: AbortSignal): Promise<Socket> {
  await waitForPath(path, signal);
  for (;;) {
    signal.throwIfAborted();
    try {
      return await connectNow(path);
    } catch (error) {
      if (!isErrno(error, 'ECONNREFUSED')) throw error;
      await new Promise((resolve) => setTimeout(resolve, BIND_TO_LISTEN_MS));
    }
  }
}

function connectNow(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
