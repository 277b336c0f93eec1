import { constants } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { OutputChunk } from '../agent/contracts.ts';
import { KeyedMutex } from '../lib/async.ts';
import { formatTime, splitLines, type Line } from './log-lines.ts';
import { recoverTail, type LogTail } from './log-tail.ts';

type StreamName = OutputChunk['stream'];

interface Unended {
  readonly data: Buffer;
  /** offset of the chunk it began in */
  readonly since: number;
}

/** An unended line holds what comes after it back from being acknowledged: no longer than this, because the agent
 * reads on for 256 KiB only. */
const MAX_HELD_BYTES = 64 * 1024;

/**
 * A container's log in the CRI format: `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <text>\n`, where P marks a
 * part that the next line of the same stream continues.
 */
export class ContainerLog {
  readonly #path: string;
  #file: FileHandle;
  readonly #order = new KeyedMutex();
  readonly #unended = new Map<StreamName, Unended>();
  /** what an earlier daemon has stored of chunks that it did not acknowledge */
  readonly #stored: LogTail | undefined;
  #storedLines = 0;

  private constructor(path: string, file: FileHandle, stored: LogTail | undefined) {
    this.#path = path;
    this.#file = file;
    this.#stored = stored;
  }

  static async open(path: string): Promise<ContainerLog> {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    return new ContainerLog(path, await openLog(path), undefined);
  }

  /** Goes on where an earlier daemon was ended, perhaps in the middle of a line. */
  static async resume(path: string): Promise<ContainerLog> {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    const file = await openLog(path);
    return new ContainerLog(path, file, await recoverTail(file));
  }

  /**
   * Stores what ends in a newline or fills a part. Returns the offset up to which everything is in the file: what is
   * behind it must come again if this daemon ends.
   */
  write({ stream, data, timeNs, endOffset }: OutputChunk): Promise<number> {
    return this.#order.run('file', async () => {
      const before = this.#unended.get(stream);
      const { lines, rest } = splitLines(before ? Buffer.concat([before.data, data]) : data);
      const since = lines.length === 0 && before ? before.since : endOffset - data.length;
      if (rest.length > 0) this.#unended.set(stream, { data: rest, since });
      else this.#unended.delete(stream);
      if (lines.length > 0) await this.#store(stream, lines, timeNs);
      const held = Math.min(...this.#unended.values().map((unended) => unended.since));
      if (held >= endOffset - MAX_HELD_BYTES) return Math.min(held, endOffset);
      await this.#storeUnended(timeNs);
      return endOffset;
    });
  }

  /** Goes on in a new file of the same name, after somebody has renamed the old one. */
  reopen(): Promise<void> {
    return this.#order.run('file', async () => {
      const file = await openLog(this.#path);
      await this.#file.close();
      this.#file = file;
    });
  }

  /** Stores unended lines, as parts, and closes the file. */
  async end(): Promise<void> {
    await this.#order.run('file', async () => {
      try {
        await this.#storeUnended(`${BigInt(Date.now()) * 1_000_000n}`);
      } finally {
        await this.#file.close();
      }
    });
  }

  /** Closes the file. Unended lines have not been acknowledged: another daemon will get them again. */
  async leave(): Promise<void> {
    await this.#order.run('file', () => this.#file.close());
  }

  async #storeUnended(timeNs: string): Promise<void> {
    for (const [stream, { data }] of this.#unended) await this.#store(stream, [{ text: data, tag: 'P' }], timeNs);
    this.#unended.clear();
  }

  async #store(stream: StreamName, lines: readonly Line[], timeNs: string): Promise<void> {
    const time = formatTime(timeNs);
    const missing = lines.slice(this.#alreadyStored(time, lines.length));
    const prefixes = { P: Buffer.from(`${time} ${stream} P `), F: Buffer.from(`${time} ${stream} F `) };
    const parts = missing.flatMap(({ text, tag }) => [prefixes[tag], text, NEWLINE]);
    await this.#append(Buffer.concat(parts));
  }

  /** How many of the lines of a chunk of this time are in the file from before: times tell chunks apart. */
  #alreadyStored(time: string, count: number): number {
    if (!this.#stored || time > this.#stored.time) return 0;
    if (time < this.#stored.time) return count;
    const stored = Math.min(count, this.#stored.lines - this.#storedLines);
    this.#storedLines += stored;
    return stored;
  }

  /** A full disk must not leave the beginning of a line behind. */
  async #append(data: Buffer): Promise<void> {
    let written = 0;
    try {
      while (written < data.length) written += (await this.#file.write(data, written)).bytesWritten;
    } catch (error) {
      if (written > 0) await this.#file.truncate((await this.#file.stat()).size - written);
      throw error;
    }
  }
}

const NEWLINE = Buffer.from('\n');

function openLog(path: string): Promise<FileHandle> {
  // never through a link: the directory is kubelet's, but a name in it may be a tenant's doing
  return open(path, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW, 0o640);
}
