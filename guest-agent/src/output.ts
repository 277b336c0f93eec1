import type { Socket } from 'node:net';
import { readerOf } from './descriptor.ts';

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

const WINDOW_BYTES = 256 * 1024;

/**
 * What a container prints, kept until the host has stored it. At most a window is kept: then the pipes are left to
 * fill and the container waits, so that nothing is lost while nobody reads.
 */
export class ContainerOutput {
  readonly #sources: Socket[] = [];
  readonly #open = new Set<Socket>();
  #kept: OutputChunk[] = [];
  #produced = 0;
  #acknowledged = 0;
  #lastTimeNs = 0n;
  #reader: OutputReader | undefined;

  /** Takes over the read end of a pipe or the master of a terminal. */
  add(stream: StreamName, fd: number): void {
    const source = readerOf(fd);
    this.#sources.push(source);
    this.#open.add(source);
    source.on('data', (data: Buffer) => this.#keep(stream, data));
    // the master of a terminal ends with EIO, a pipe without an error
    source.on('error', () => source.destroy());
    source.on('close', () => {
      this.#open.delete(source);
      this.#endIfDone();
    });
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
    if (this.#produced - this.#acknowledged < WINDOW_BYTES) for (const source of this.#sources) source.resume();
  }

  /** Stops reading for good, as when the container is removed. */
  close(): void {
    for (const source of this.#sources) source.destroy();
    this.#reader?.end();
    this.#reader = undefined;
  }

  #keep(stream: StreamName, data: Buffer): void {
    this.#produced += data.length;
    const now = BigInt(Date.now()) * 1_000_000n;
    this.#lastTimeNs = now > this.#lastTimeNs ? now : this.#lastTimeNs + 1n;
    const chunk = { stream, data, endOffset: this.#produced, timeNs: this.#lastTimeNs };
    this.#kept.push(chunk);
    this.#reader?.chunk(chunk);
    if (this.#produced - this.#acknowledged >= WINDOW_BYTES) for (const source of this.#sources) source.pause();
  }

  #endIfDone(): void {
    if (this.#open.size > 0 || !this.#reader) return;
    this.#reader.end();
    this.#reader = undefined;
  }
}
