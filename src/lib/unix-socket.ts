import { lstat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { CaissonError, isErrno } from './errors.ts';
import { waitForPath } from './wait-for-path.ts';

const BIND_TO_LISTEN_MS = 5;

/**
 * Connects to the unix socket that another process is about to make. Its path appears at bind, a moment before it
 * listens, and there is no event for the latter. Throws `internal` when it is not `owner`'s socket.
 */
export async function connectWhenReady(path: string, owner: number, signal: AbortSignal): Promise<Socket> {
  await waitForPath(path, signal);
  await requireSocketOf(path, owner);
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

/** Who owns the directory could lead us to somebody else's socket by a link. */
export async function requireSocketOf(path: string, owner: number): Promise<void> {
  const stat = await lstat(path);
  if (!stat.isSocket() || stat.uid !== owner)
    throw new CaissonError('internal', `${path} is not user ${owner}'s own socket`);
}
