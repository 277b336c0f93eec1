import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { chmod } from 'node:fs/promises';
import type { Logger } from '../../lib/logger.ts';

/** Opens a connection to the agent's port in one VM; the socket is connected and its handshake done. */
export type VsockDialer = () => Promise<Socket>;

/**
 * A unix socket whose connections are carried to the agent's vsock port: what dials it need not know which transport
 * the VM has. Closed connections close their other half; ending one side ends the other.
 */
export async function startRelay(path: string, dial: VsockDialer, log: Logger): Promise<AsyncDisposable> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    open.add(client);
    client.once('close', () => open.delete(client));
    client.on('error', () => client.destroy());
    dial().then(
      (guest) => join(client, guest, open),
      (error: unknown) => {
        log.debug({ err: error }, 'cannot dial the guest agent');
        client.destroy();
      },
    );
  });
  await listen(server, path);
  server.on('error', (error) => log.warn({ err: error }, 'a connection to the guest agent was not taken'));
  return {
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function join(client: Socket, guest: Socket, open: Set<Socket>): void {
  open.add(guest);
  guest.once('close', () => {
    open.delete(guest);
    client.destroy();
  });
  guest.on('error', () => guest.destroy());
  if (client.destroyed) return void guest.destroy();
  client.once('close', () => guest.destroy());
  client.pipe(guest);
  guest.pipe(client);
}

async function listen(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, 'listening');
  await chmod(path, 0o600);
}
