import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { CaissonError, isErrno } from '../../lib/errors.ts';

/** a free port of one address may be taken on the other */
const TRIES = 20;

export interface Listener extends AsyncDisposable {
  /** such as `127.0.0.1:8080` */
  readonly addresses: readonly string[];
}

/** Listens on 127.0.0.1 and, where there is IPv6, on ::1. 0: a port that is free on both. */
export async function listenLocally(port: number, onConnection: (socket: Socket) => void): Promise<Listener> {
  for (let tries = 1; ; tries++) {
    await using undo = new AsyncDisposableStack();
    try {
      const first = undo.use(await listen('127.0.0.1', port, onConnection));
      const second = await listen('::1', first.port, onConnection).catch((error: unknown) => {
        if (isErrno(error, 'EADDRNOTAVAIL') || isErrno(error, 'EAFNOSUPPORT')) return undefined;
        throw error;
      });
      if (second) undo.use(second);
      const owned = undo.move();
      const addresses = [`127.0.0.1:${first.port}`, ...(second ? [`[::1]:${second.port}`] : [])];
      return { addresses, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    } catch (cause) {
      if (port === 0 && tries < TRIES && isErrno(cause, 'EADDRINUSE')) continue;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new CaissonError('failed_precondition', `cannot listen on local port ${port}: ${why}`, {
        cause,
        hint: 'name another one, or none for a free one: LOCAL:REMOTE, :REMOTE',
      });
    }
  }
}

interface Listening extends AsyncDisposable {
  readonly port: number;
}

async function listen(host: string, port: number, onConnection: (socket: Socket) => void): Promise<Listening> {
  const open = new Set<Socket>();
  // the other side may go on when a client has said all it had to say
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    // shows by its closing
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(port, host);
  await once(server, 'listening');
  return { port: portOf(server), [Symbol.asyncDispose]: () => close(server, open) };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function close(server: Server, open: ReadonlySet<Socket>): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  for (const socket of open) socket.destroy();
  await closed;
}
