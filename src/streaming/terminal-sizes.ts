import type { Readable } from 'node:stream';
import type { TerminalSize } from '../pod/contracts.ts';

/** `characters` of one size's JSON; they are some 25 */
const MAX_OBJECT_CHARS = 256;
const MAX_SIDE = 65_535;

/** `ms` that a command waits for the client's first size: it comes right behind the streams, through two proxies. */
const FIRST_SIZE_MS = 250;
const MAX_WAITING = 16;

/** The sizes that a client tells. Those that come before anybody follows them wait. */
export class ClientSizes {
  readonly #source: Readable | undefined;
  readonly #parser = new TerminalSizes();
  #waiting: TerminalSize[] = [];
  #take = (size: TerminalSize): void => {
    this.#waiting = [...this.#waiting.slice(1 - MAX_WAITING), size];
  };

  constructor(source: Readable | undefined) {
    this.#source = source;
    source?.on('data', (chunk: Buffer) => {
      for (const size of this.#parser.push(chunk)) this.#take(size);
    });
  }

  /** For a command that asks for its terminal's size as it begins; undefined when the client does not tell one soon. */
  async first(): Promise<TerminalSize | undefined> {
    const source = this.#source;
    if (!source || source.destroyed || source.readableEnded) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.#waiting.length > 0) resolve();
    };
    look();
    const timer = setTimeout(resolve, FIRST_SIZE_MS);
    source.on('data', look).once('close', resolve);
    await promise;
    clearTimeout(timer);
    source.off('data', look).off('close', resolve);
    return this.#waiting.at(-1);
  }

  /** From now on; the ones that wait come at once. */
  follow(take: (size: TerminalSize) => void): void {
    for (const size of this.#waiting) take(size);
    this.#waiting = [];
    this.#take = take;
  }
}

/** Reads the resize stream: JSON objects `{"Width":80,"Height":24}`, one behind the other. Whatever else is left out. */
export class TerminalSizes {
  #text = '';

  /** The sizes that are complete with this. */
  push(chunk: Buffer): TerminalSize[] {
    const sizes: TerminalSize[] = [];
    const parts = (this.#text + chunk.toString('latin1')).split('}');
    this.#text = (parts.pop() ?? '').slice(-MAX_OBJECT_CHARS);
    for (const part of parts) {
      const size = parseSize(`${part.slice(-MAX_OBJECT_CHARS)}}`);
      if (size) sizes.push(size);
    }
    return sizes;
  }
}

function parseSize(json: string): TerminalSize | undefined {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return undefined; // the client's terminal keeps the size it has
  }
  if (typeof value !== 'object' || value === null || !('Width' in value) || !('Height' in value)) return undefined;
  const { Width: columns, Height: rows } = value;
  return isSide(columns) && isSide(rows) ? { columns, rows } : undefined;
}

function isSide(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) <= MAX_SIDE;
}
