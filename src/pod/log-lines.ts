/** Longer lines are cut in parts, as containerd does: kubelet's and crictl's readers join them again. */
const MAX_LINE_BYTES = 16 * 1024;
const NEWLINE = 0x0a;

export interface Line {
  readonly text: Buffer;
  readonly tag: 'P' | 'F';
}

/** The lines that end in `data`, long ones in parts, and what is left of it: less than a part. */
export function splitLines(data: Buffer): { readonly lines: Line[]; readonly rest: Buffer } {
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
