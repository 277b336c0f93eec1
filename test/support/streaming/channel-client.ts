import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';

/** A client of Kubernetes' WebSocket channels: collects what comes on each. */
export class ChannelClient {
  readonly socket: WebSocket;
  readonly messages: Buffer[] = [];
  /** status code, once it is closed */
  readonly closed: Promise<number>;
  readonly #base64: boolean;
  readonly #received = new Map<number, Buffer[]>();

  private constructor(url: string, protocols: string[]) {
    this.#base64 = protocols.some((name) => name.includes('base64'));
    this.socket = new WebSocket(url.replace('http', 'ws'), protocols);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.closed = promise;
    this.socket.on('message', (data: Buffer, isBinary) => this.#take(data, isBinary));
    this.socket.on('close', resolve);
  }

  /** Throws with the status when the server does not want it. */
  static async connect(url: string, ...protocols: string[]): Promise<ChannelClient> {
    const client = new ChannelClient(url, protocols);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    client.socket.on('open', resolve);
    client.socket.on('error', reject);
    client.socket.on('unexpected-response', (_request, response: IncomingMessage) => {
      reject(new Error(`status ${response.statusCode}`));
      client.socket.terminate();
    });
    await promise;
    return client;
  }

  send(channel: number, data: string | Buffer): void {
    const payload = Buffer.from(data);
    if (this.#base64) this.socket.send(`${channel}${payload.toString('base64')}`);
    else this.socket.send(Buffer.concat([Buffer.from([channel]), payload]));
  }

  /** Version 5's signal. */
  end(channel: number): void {
    this.socket.send(Buffer.from([255, channel]));
  }

  of(channel: number): string {
    return Buffer.concat(this.#received.get(channel) ?? []).toString();
  }

  async until(satisfied: () => boolean): Promise<void> {
    while (!satisfied()) await once(this.socket, 'message');
  }

  #take(data: Buffer, isBinary: boolean): void {
    assert.equal(isBinary, !this.#base64);
    this.messages.push(data);
    const [first = 0] = data;
    const payload = this.#base64 ? Buffer.from(data.toString('latin1', 1), 'base64') : data.subarray(1);
    const channel = this.#base64 ? first - 48 : first;
    this.#received.set(channel, [...(this.#received.get(channel) ?? []), payload]);
  }
}
