import { constants } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { KeyedMutex } from '../lib/async.ts';

type StreamName = 'stdout' | 'stderr';

/** Longer lines are cut in parts, as containerd does: kubelet's and crictl's readers join them again. */
const MAX_LINE_BYTES = 16 * 1024;
const NEWLINE = 0x0a;

/**
 * A container's log in the CRI format: `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <text>\n`, where P marks a
 * part that the next line of the same stream continues.
 */
export class ContainerLog implements AsyncDisposable {
  readonly #path: string;
  #file: FileHandle;
  readonly #order = new KeyedMutex();
  readonly #pending: Record<StreamName, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<ContainerLog> {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    return new ContainerLog(path, await openLog(path));
  }

  /** Stores what ends in a newline or fills a part; keeps the rest for the next call. */
  write(stream: StreamName, data: Buffer, timeNs: string): Promise<void> {
    return this.#order.run('file', async () => {
      const { lines, rest } = splitLines(Buffer.concat([this.#pending[stream], data]));
      this.#pending[stream] = rest;
      if (lines.length > 0) await this.#store(stream, lines, timeNs);
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
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#order.run('file', async () => {
      for (const stream of ['stdout', 'stderr'] as const) {
        const rest = this.#pending[stream];
        if (rest.length > 0)
          await this.#store(stream, [{ text: rest, tag: 'P' }], `${BigInt(Date.now()) * 1_000_000n}`);
        this.#pending[stream] = Buffer.alloc(0);
      }
      await this.#file.close();
    });
  }

  async #store(stream: StreamName, lines: readonly Line[], timeNs: string): Promise<void> {
    const prefix = `${formatTime(timeNs)} ${stream} `;
    const parts = lines.flatMap(({ text, tag }) => [Buffer.from(`${prefix}${tag} `), text, Buffer.of(NEWLINE)]);
    await this.#file.appendFile(Buffer.concat(parts));
  }
}

function openLog(path: string): Promise<FileHandle> {
  // never through a link: the directory is kubelet's, but a name in it may be a tenant's doing
  return open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW, 0o640);
}

interface Line {
  readonly text: Buffer;
  readonly tag: 'P' | 'F';
}

function splitLines(data: Buffer): { readonly lines: Line[]; readonly rest: Buffer } {
  const lines: Line[] = [];
  let start = 0;
  for (;;) {
    const end = data.indexOf(NEWLINE, start);
    const stop = end === -1 ? data.length : end;
    while (stop - start > MAX_LINE_BYTES) {
      lines.push({ text: data.subarray(start, start + MAX_LINE_BYTES), tag: 'P' });
      start += MAX_LINE_BYTES;
    }
    if (end === -1) break;
    lines.push({ text: data.subarray(start, end), tag: 'F' });
    start = end + 1;
  }
  return { lines, rest: Buffer.from(data.subarray(start)) };
}

/** RFC 3339 with nine digits of a second, UTC. The time comes from the guest: nonsense becomes the host's. */
export function formatTime(timeNs: string): string {
  const valid = /^\d{1,19}$/.test(timeNs);
  const ns = valid ? BigInt(timeNs) : BigInt(Date.now()) * 1_000_000n;
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${(ns % 1_000_000_000n).toString().padStart(9, '0')}Z`;
}
