import type { Socket } from 'node:net';
import { nowNs } from './clock.ts';

export type StreamName = 'STDOUT' | 'STDERR';

export interface OutputChunk {
  readonly stream: StreamName;
  readonly data: Buffer;
  /** offset after `data`, both streams counted together */
  readonly endOffset: number;
  /** later than that of every chunk before it, so that it also tells chunks apart */
  readonly timeNs: bigint;
}

export interface OutputReader {
  chunk(chunk: OutputChunk): void;
  /** every chunk has been handed out and no more will come */
  end(): void;
}

/** An attached client: it gets what comes from now on and acknowledges nothing. */
export interface OutputClient {
  /** false: no more until `release` is called for it, or the container has ended: then the rest comes at once */
  write(stream: StreamName, data: Buffer): boolean;
  /** no more will come */
  end(): void;
}

const WINDOW_BYTES = 256 * 1024;

/**
 * What a container prints, kept until the host has stored it. At most a window is kept: then the pipes are left to
 * fill and the container waits, so that nothing is lost while nobody reads. It waits for attached clients as well, which
 * must not keep it waiting for ever: attach.ts.
 */
export class ContainerOutput {
  readonly #sources: Socket[] = [];
  readonly #open = new Set<Socket>();
  #kept: OutputChunk[] = [];
  #produced = 0;
  #acknowledged = 0;
  #lastTimeNs = 0n;
  #reader: OutputReader | undefined;
  readonly #clients = new Set<OutputClient>();
  /** those that can take no more for now */
  readonly #full = new Set<OutputClient>();
  #finished = false;

  /** Takes over what is read from a pipe or a terminal. */
  add(stream: StreamName, source: Socket): void {
    this.#sources.push(source);
    this.#open.add(source);
    source.on('data', (data: Buffer) => this.#keep(stream, data));
    source.on('error', () => source.destroy());
    const ended = (): void => {
      this.#open.delete(source);
      this.#endIfDone();
    };
    source.once('end', ended).once('close', ended);
  }

  join(client: OutputClient): void {
    this.#clients.add(client);
    this.#endIfDone();
  }

  leave(client: OutputClient): void {
    this.#clients.delete(client);
    this.release(client);
  }

  /** The client can take more. */
  release(client: OutputClient): void {
    if (this.#full.delete(client)) this.#flow();
  }

  /** Hands everything that is not acknowledged, and then what comes, to this reader; the one before gets its end. */
  attach(reader: OutputReader): void {
    this.#reader?.end();
    this.#reader = reader;
    for (const chunk of this.#kept) reader.chunk(chunk);
    this.#endIfDone();
  }

  detach(reader: OutputReader): void {
    if (this.#reader === reader) this.#reader = undefined;
  }

  acknowledge(offset: number): void {
    if (offset <= this.#acknowledged || offset > this.#produced) return;
    this.#acknowledged = offset;
    this.#kept = this.#kept.filter((chunk) => chunk.endOffset > offset);
    this.#flow();
  }

  /** The container has ended. What is left in its pipes is little, and must not wait for clients to reach the log. */
  finish(): void {
    this.#finished = true;
    this.#full.clear();
    this.#flow();
  }

  /** Stops reading for good, as when the container is removed. */
  close(): void {
    for (const source of this.#sources) source.destroy();
    this.#open.clear();
    this.#reader?.end();
    this.#reader = undefined;
    this.#endIfDone();
  }

  #keep(stream: StreamName, data: Buffer): void {
    this.#produced += data.length;
    const now = nowNs();
    this.#lastTimeNs = now > this.#lastTimeNs ? now : this.#lastTimeNs + 1n;
    const chunk = { stream, data, endOffset: this.#produced, timeNs: this.#lastTimeNs };
    this.#kept.push(chunk);
    this.#reader?.chunk(chunk);
    for (const client of this.#clients) {
      if (!client.write(stream, data) && !this.#finished) this.#full.add(client);
    }
    this.#flow();
  }

  #flow(): void {
    const flows = this.#produced - this.#acknowledged < WINDOW_BYTES && this.#full.size === 0;
    for (const source of this.#sources) {
      if (flows) source.resume();
      else source.pause();
    }
  }

  #endIfDone(): void {
    if (this.#open.size > 0) return;
    for (const client of this.#clients) client.end();
    this.#clients.clear();
    this.#reader?.end();
    this.#reader = undefined;
  }
}
