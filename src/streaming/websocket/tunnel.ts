import { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';

const NORMAL_CLOSURE = 1000;

/**
 * A WebSocket's binary messages as one stream of bytes each way; its normal closure is the end. Emits `alive` when the
 * client has sent a ping, or answered one.
 */
export class WebSocketTunnel extends Duplex {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    socket.on('message', (data: RawData) => {
      if (!this.push(data)) socket.pause();
    });
    for (const sign of ['ping', 'pong']) socket.on(sign, () => this.emit('alive'));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => {
      this.push(null);
      // nobody will read up to there
      if (this.isPaused()) this.destroy();
    });
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#socket.send(chunk, { binary: true }, done);
  }

  /** A frame's header and its data, which were written together. */
  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error) => void): void {
    this.#socket.send(Buffer.concat(chunks.map(({ chunk }) => chunk)), { binary: true }, done);
  }

  override _final(done: () => void): void {
    if (this.#socket.readyState === this.#socket.CLOSED) {
      done();
      return;
    }
    // the client answers first; what is closed at once may be reset on its way
    this.#socket.once('close', () => done());
    this.#socket.close(NORMAL_CLOSURE);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.terminate();
    done(error);
  }
}
