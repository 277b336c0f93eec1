import type { TerminalSize } from '../pod/contracts.ts';

/** `characters` of one size's JSON; they are some 25 */
const MAX_OBJECT_CHARS = 256;
const MAX_SIDE = 65_535;

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
