import type { FileHandle } from 'node:fs/promises';

/** The end of a log: the time of its last line, and how many lines of that time there are. */
export interface LogTail {
  readonly time: string;
  readonly lines: number;
}

const FIRST_LOOK_BYTES = 64 * 1024;
/** more than the lines of one chunk can be, however short they are */
const LAST_LOOK_BYTES = 8 * 1024 * 1024;
const NEWLINE = 0x0a;

/** Cuts off a line that was written in part when the daemon was killed, and reads the end of what remains. */
export async function recoverTail(file: FileHandle): Promise<LogTail | undefined> {
  for (let look = FIRST_LOOK_BYTES; ; look *= 4) {
    const { size } = await file.stat();
    const start = Math.max(0, size - look);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    const end = buffer.subarray(0, bytesRead).lastIndexOf(NEWLINE) + 1;
    const last = start === 0 || look >= LAST_LOOK_BYTES;
    if (end === 0 && !last) continue;
    const tail = readTail(buffer.subarray(0, end), start === 0);
    if (!tail.complete && !last) continue;
    if (end < bytesRead) await file.truncate(start + end);
    return tail.lines === 0 ? undefined : tail;
  }
}

/** `complete`: all lines of that time are in `text`. */
function readTail(text: Buffer, isWhole: boolean): LogTail & { readonly complete: boolean } {
  const lines = text.toString('latin1').split('\n').slice(0, -1);
  const times = lines.slice(isWhole ? 0 : 1).map((line) => line.slice(0, line.indexOf(' ')));
  const time = times.at(-1) ?? '';
  const before = times.findLastIndex((other) => other !== time);
  return { time, lines: times.length - 1 - before, complete: isWhole || before !== -1 };
}
