import { once } from 'node:events';
import { chmod, lstat, mkdir, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { CaissonError, describeError } from '../lib/errors.ts';
import { ignoreMissing } from '../lib/files.ts';

const KEEP_ALIVE_MS = 30_000;
/** keys are asked for, as on TCP */
const SOCKET_MODE = 0o666;

/** Disposal ends the listening; connections are closed by whoever took them. */
export interface SshListener extends Disposable {
  readonly port: number | undefined;
}

/** Replaces the socket of a daemon that has ended; the database's lock keeps a second one away. */
export async function listenUnix(path: string, onSocket: (socket: Socket) => void): Promise<SshListener> {
  await mkdir(dirname(path), { recursive: true, mode: 0o711 });
  const found = await lstat(path).catch(ignoreMissing(undefined));
  if (found && !found.isSocket())
    throw new CaissonError('failed_precondition', `${path} is in the way: it is not a socket`);
  await rm(path, { force: true });
  const server = createServer(onSocket);
  await listening(server, { path });
  await chmod(path, SOCKET_MODE);
  return { port: undefined, [Symbol.dispose]: () => void server.close() };
}

export async function listenTcp(
  { address, port }: { readonly address: string; readonly port: number },
  onSocket: (socket: Socket) => void,
): Promise<SshListener> {
  const options = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
  const server = createServer(options, onSocket);
  await listening(server, { host: address, port });
  const bound = server.address();
  return { port: typeof bound === 'object' ? bound?.port : undefined, [Symbol.dispose]: () => void server.close() };
}

async function listening(server: Server, where: { path?: string; host?: string; port?: number }): Promise<void> {
  try {
    server.listen(where);
    await once(server, 'listening');
  } catch (cause) {
    const place = where.path ?? `${where.host} port ${where.port}`;
    throw new CaissonError('failed_precondition', `cannot serve ssh on ${place}: ${describeError(cause)}`, {
      cause,
      hint: 'change ssh.address and ssh.port, or stop who has it',
    });
  }
}
