import { ServerCredentials, type Server } from '@grpc/grpc-js';
import { chmod, lstat, mkdir, mkdtemp, rename, unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { CaissonError, isErrno } from '../lib/errors.ts';
import { ignoreMissing, removeTree } from '../lib/files.ts';

/** `sun_path` holds 108 bytes, the last of them 0. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Binds the server to a unix socket with mode 0600 and returns what removes the socket again. A missing directory is
 * made with mode 0711. Throws `failed_precondition` when another process listens there or something that is no socket
 * is in the way, `invalid_argument` for a path that no socket can have.
 */
export async function bindUnixSocket(server: Server, socketPath: string): Promise<AsyncDisposable> {
  const directory = dirname(socketPath);
  await makeDirectory(directory);
  await assertNobodyServes(socketPath);

  // The socket is born in a directory that nobody else can enter and moved once its mode is right: there is no moment
  // in which others could connect, and no umask to change under the feet of the process's other threads.
  const privateDirectory = await mkdtemp(join(directory, '.'));
  try {
    const birthplace = join(privateDirectory, 's');
    assertFits(birthplace);
    assertFits(socketPath);
    await bind(server, `unix:${birthplace}`);
    await chmod(birthplace, 0o600);
    // replaces the socket of a dead daemon in the same step
    await rename(birthplace, socketPath);
  } finally {
    await removeTree(privateDirectory);
  }
  const { ino } = await lstat(socketPath);
  return { [Symbol.asyncDispose]: () => removeOwnSocket(socketPath, ino) };
}

async function makeDirectory(directory: string): Promise<void> {
  const created = await mkdir(directory, { recursive: true, mode: 0o711 });
  // the umask may have taken bits away; a directory that was there before keeps its mode
  if (created !== undefined) await chmod(directory, 0o711);
}

async function assertNobodyServes(socketPath: string): Promise<void> {
  const found = await lstat(socketPath).catch(ignoreMissing(undefined));
  if (!found) return;
  if (!found.isSocket()) {
    throw new CaissonError('failed_precondition', `${socketPath} is in the way: it is not a socket`);
  }
  if (await accepts(socketPath)) {
    throw new CaissonError('failed_precondition', `another caisson serves on ${socketPath}`, {
      hint: 'stop it first, or give this one another socket path',
    });
  }
}

/** Whether somebody listens on the socket. Errors other than nobody's listening count as a yes. */
async function accepts(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const connection = createConnection(socketPath);
  connection.once('connect', () => resolve(true));
  connection.once('error', (error) => resolve(!isErrno(error, 'ECONNREFUSED') && !isErrno(error, 'ENOENT')));
  try {
    return await promise;
  } finally {
    connection.destroy();
  }
}

function assertFits(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return;
  throw new CaissonError('invalid_argument', `${path} is too long for a socket: ${bytes} bytes`, {
    hint: `at most ${MAX_SOCKET_PATH_BYTES}`,
  });
}

async function bind(server: Server, address: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.bindAsync(address, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
  await promise;
}

/** Leaves the socket of a successor alone that has taken the path over. */
async function removeOwnSocket(socketPath: string, ino: number): Promise<void> {
  const found = await lstat(socketPath).catch(ignoreMissing(undefined));
  if (found?.ino === ino) await unlink(socketPath).catch(ignoreMissing(undefined));
}
