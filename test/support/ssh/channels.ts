import { once } from 'node:events';
import type { ClientChannel } from 'ssh2';
import type { startGateway } from './gateway.ts';

/** With a callback that ssh2 calls. */
export function open(
  start: (done: (error: Error | undefined, channel: ClientChannel) => void) => void,
): Promise<ClientChannel> {
  return new Promise((resolve, reject) => start((error, channel) => (error ? reject(error) : resolve(channel))));
}

export async function textOf(channel: ClientChannel): Promise<string> {
  let text = '';
  channel.on('data', (chunk: Buffer) => (text += String(chunk)));
  await once(channel, 'close');
  return text;
}

/** Sends, ends its side, and returns the answer. */
export async function ask(
  client: Awaited<ReturnType<Awaited<ReturnType<typeof startGateway>>['client']>>,
  host: string,
  port: number,
  request: string | Buffer,
): Promise<string> {
  const channel = await open((done) => client.forwardOut('127.0.0.1', 1, host, port, done));
  channel.end(request);
  return textOf(channel);
}
