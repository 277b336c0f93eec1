import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { EntryReader, type Entry } from './entries.ts';
import { openLog, readFrom } from './follow.ts';

const NEWLINE = Buffer.from('\n');

export interface PrintOptions {
  /** entries from this time on only, as text; empty: all */
  readonly since: string;
  readonly timestamps: boolean;
  readonly stdout: Writable;
  readonly stderr: Writable;
}

/** Writes a log's bytes as lines, as they come: a container's stdout and stderr to their own streams. */
export class LogPrinter {
  readonly #options: PrintOptions;
  readonly #reader = new EntryReader();
  /** of these the last entry was a part of a line */
  readonly #unended = new Set<Entry['stream']>();

  constructor(options: PrintOptions) {
    this.#options = options;
  }

  /** Returns when the streams can take more. */
  async print(chunk: Buffer): Promise<void> {
    for (const { entry } of this.#reader.push(chunk)) if (entry.time >= this.#options.since) this.#write(entry);
    const { stdout, stderr } = this.#options;
    for (const stream of [stdout, stderr]) if (stream.writableNeedDrain) await once(stream, 'drain');
  }

  #write({ time, stream, partial, text }: Entry): void {
    const head = this.#options.timestamps && !this.#unended.has(stream) ? [Buffer.from(`${time} `)] : [];
    this.#options[stream].write(Buffer.concat([...head, text, ...(partial ? [] : [NEWLINE])]));
    if (partial) this.#unended.add(stream);
    else this.#unended.delete(stream);
  }
}

/** Where the last `count` lines begin, of those since a time: `bytes` from the file's start. */
export async function tailPosition(path: string, count: number, since: string): Promise<number> {
  const file = await openLog(path);
  if (!file) return 0;
  const reader = new EntryReader();
  // a ring of the starts of lines
  const starts: number[] = [];
  let lines = 0;
  let start = 0;
  let at = 0;
  try {
    for await (const chunk of readFrom(file, 0)) {
      for (const { entry, end } of reader.push(chunk)) {
        if (!entry.partial && entry.time >= since) starts[lines++ % (count + 1)] = start;
        if (!entry.partial) start = at + end;
      }
      at += chunk.length;
    }
  } finally {
    await file.close();
  }
  if (count === 0) return start;
  return starts[lines > count ? (lines - count) % (count + 1) : 0] ?? start;
}
