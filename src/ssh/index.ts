/** The SSH edge: shells, commands, files and ports of containers, for who has a key. */
import { Clients } from './clients.ts';
import type { SshGateway, SshOptions } from './contracts.ts';
import { hostKey } from './host-key.ts';
import { listenTcp, listenUnix } from './listeners.ts';

export type * from './contracts.ts';

/** Serves until it is disposed, which ends all connections. `failed_precondition` when it cannot listen. */
export async function openSsh(options: SshOptions): Promise<SshGateway & AsyncDisposable> {
  const { log, socketPath } = options;
  await using stack = new AsyncDisposableStack();
  const key = await hostKey(options.keyDirectory);
  const clients = stack.use(new Clients(key, options));
  stack.use(await listenUnix(socketPath, (socket) => clients.welcome(socket, { preamble: true })));
  const tcp =
    options.tcp && stack.use(await listenTcp(options.tcp, (socket) => clients.welcome(socket, { preamble: false })));
  log.info({ socket: socketPath, port: tcp?.port, hostKey: key.publicKey }, 'serving ssh');
  const release = stack.move();
  return { port: tcp?.port, hostKey: key.publicKey, [Symbol.asyncDispose]: () => release.disposeAsync() };
}
