import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { ConnectionOptions } from '../connection.ts';
import { forward } from '../forward.ts';
import { ChannelSocket } from './channels.ts';
import type { ChannelProtocol } from './protocols.ts';

/** two channels for each, and 255 means something else */
export const MAX_PORTS = 64;

export interface PortChannelOptions extends ConnectionOptions {
  readonly protocol: ChannelProtocol;
  readonly ports: readonly number[];
  readonly dial: (port: number, signal: AbortSignal) => Promise<Duplex>;
  /** for messages, such as `port 80 to pod 0123` */
  readonly describe: (port: number) => string;
}

/** Forwards one connection to each port: channel 2n is its data, 2n + 1 its error. Over when all of them are. */
export async function servePortChannels(webSocket: WebSocket, options: PortChannelOptions): Promise<void> {
  const { protocol, ports, dial, describe } = options;
  await using socket = new ChannelSocket(webSocket, protocol, options);
  const served = ports.map(async (port, index) => {
    const data = socket.open(2 * index);
    const error = socket.open(2 * index + 1);
    error.resume();
    // each channel starts with its port
    data.write(littleEndian(port));
    error.write(littleEndian(port));
    const report = async (problem: string | undefined): Promise<void> => {
      if (problem !== undefined && !error.destroyed) error.write(problem);
    };
    await forward(() => dial(port, socket.gone), { data, report, halfCloses: false }, describe(port));
  });
  await Promise.all(served);
  if (!socket.gone.aborted) await socket.finish();
}

function littleEndian(port: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16LE(port);
  return bytes;
}
