/** A client of ssh2's whose messages are damaged before they are encrypted, so that all of them are read. */
import { once } from 'node:events';
import type { Client, ClientChannel } from 'ssh2';
import type { Random } from './random.ts';

/** What ssh2 does not declare. */
interface Protocol {
  readonly _packetRW: { write: { readonly allocStart: number; finalize: (packet: Buffer, force: boolean) => Buffer } };
  ping(): void;
  channelWindowAdjust(channel: number, bytes: number): void;
  channelData(channel: number, data: Buffer): void;
  channelEOF(channel: number): void;
  channelClose(channel: number): void;
}

const protocolOf = (client: Client): Protocol => (client as unknown as { readonly _protocol: Protocol })._protocol;

/** `change` gets every message that is sent from now on. */
export function changeMessages(client: Client, change: (message: Buffer) => void): void {
  const { write } = protocolOf(client)._packetRW;
  const finalize = write.finalize.bind(write);
  write.finalize = (packet, force) => {
    change(packet.subarray(write.allocStart));
    return finalize(packet, force);
  };
}

/** From now on every second message is another than it should be. */
export function damageMessages(client: Client, random: Random): void {
  changeMessages(client, (message) => {
    // the beginning says most
    const length = Math.min(message.length, 60);
    if (length === 0 || random.once(2)) return;
    for (let i = 1 + random.below(3); i > 0; i--)
      message[random.below(length)] = random.pick([0, 1, 128, 255, 80 + random.below(21)]);
  });
}

const OPERATIONS: readonly ((client: Client, random: Random) => void)[] = [
  (client, random) => {
    client.exec('echo', { env: { LC_A: 'x' }, pty: random.once(2) }, (_error, channel?: ClientChannel) => {
      channel?.on('error', () => undefined);
      channel?.write('abc');
      channel?.setWindow(1, 2, 3, 4);
      channel?.signal('INT');
      if (random.once(2)) channel?.end();
      else channel?.close();
    });
  },
  (client) => void client.shell((_error, channel?: ClientChannel) => channel?.end('exit')),
  (client) => void client.sftp((_error, sftp) => sftp?.end()),
  (client) => void client.forwardOut('1', 1, 'localhost', 80, (_error, channel?: ClientChannel) => channel?.end('abc')),
  (client) => void client.forwardIn('127.0.0.1', 0, () => undefined),
  (client) => protocolOf(client).ping(),
  (client, random) =>
    protocolOf(client).channelWindowAdjust(random.below(3), random.pick([0, 1, 2 ** 31, 2 ** 32 - 1])),
  (client, random) => protocolOf(client).channelData(random.below(3), Buffer.alloc(random.below(100))),
  (client, random) => protocolOf(client).channelEOF(random.below(3)),
  (client, random) => protocolOf(client).channelClose(random.below(3)),
];

/** Does some things at once, and is lost. */
export async function doAnything(client: Client, random: Random): Promise<void> {
  const closed = new Promise<void>((resolve) => client.on('close', () => resolve()));
  for (let i = random.below(12); i > 0; i--) {
    try {
      random.pick(OPERATIONS)(client, random);
    } catch {
      // what it may not do any more is no fault of the server's
    }
    if (random.once(2)) await new Promise(setImmediate);
  }
  for (let i = random.below(30); i > 0; i--) await new Promise(setImmediate);
  client.destroy();
  await closed;
}

/** Until it is let in, or refused. */
export async function loggedIn(client: Client): Promise<boolean> {
  const refused = new Promise<boolean>((resolve) => client.on('close', () => resolve(false)));
  return await Promise.race([
    once(client, 'ready').then(
      () => true,
      () => false,
    ),
    refused,
  ]);
}
