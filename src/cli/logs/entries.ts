/** The lines of a container's log in the CRI format. */

export interface Entry {
  /** RFC 3339 with nanoseconds, UTC: compares as text */
  readonly time: string;
  readonly stream: 'stdout' | 'stderr';
  /** the next entry of the same stream goes on with the same line */
  readonly partial: boolean;
  readonly text: Buffer;
}

const NEWLINE = 0x0a;
const TIME_CHARS = 30;
const HEAD = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([PF]) /;
const HEAD_CHARS = TIME_CHARS + ' stdout F '.length;
/** `bytes` of an entry; the daemon writes 16 KiB at most */
const MAX_ENTRY = 1024 * 1024;

/** Cuts a file's bytes into entries, however they come. What is no entry is left out. */
export class EntryReader {
  #rest = Buffer.alloc(0);

  /** `end`: how many bytes of `chunk` belong to the entries up to this one. */
  *push(chunk: Buffer): Generator<{ readonly entry: Entry; readonly end: number }> {
    const before = this.#rest.length;
    const bytes = before === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      const entry = parseEntry(bytes.subarray(start, end));
      start = end + 1;
      if (entry) yield { entry, end: start - before };
    }
    const rest = bytes.subarray(start);
    this.#rest = Buffer.from(rest.length > MAX_ENTRY ? rest.subarray(0, 0) : rest);
  }
}

export function parseEntry(line: Buffer): Entry | undefined {
  const head = HEAD.exec(line.toString('latin1', 0, HEAD_CHARS));
  const [whole, time, stream, tag] = head ?? [];
  if (whole === undefined || time === undefined) return undefined;
  return { time, stream: stream as Entry['stream'], partial: tag === 'P', text: line.subarray(whole.length) };
}
