import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface TestListener extends AsyncDisposable {
  readonly port: number;
  readonly sockets: ReadonlySet<Socket>;
}

/** On the loopback interface, with half-close. */
export async function listenTcp(onSocket: (socket: Socket) => void): Promise<TestListener> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // a client that is cut off is part of many tests
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no TCP address');
  return {
    port: address.port,
    sockets,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Answers what it got with its length once all of it has come. */
export const countTcp = (socket: Socket): void => {
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
  socket.on('end', () => socket.end(`${bytes} bytes`));
};

/** A port that nobody listens on. */
export async function deafPort(): Promise<number> {
  const listener = await listenTcp(() => undefined);
  await listener[Symbol.asyncDispose]();
  return listener.port;
}

/** Sends, ends its side, and returns all of the answer. */
export async function askTcp(port: number, request: string | Buffer): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.end(request);
  const parts: Buffer[] = [];
  for await (const chunk of socket) parts.push(chunk as Buffer);
  return Buffer.concat(parts).toString();
}
