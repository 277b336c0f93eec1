/** The only place that writes to the terminal. Results go to stdout, everything about them to stderr. */
import { CaissonError } from '../lib/errors.ts';

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** For people who wait: what is going on. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function printTable(rows: readonly (readonly string[])[]): void {
  print(table(rows));
}

/** Columns as wide as their widest cell, two blanks apart. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]): string => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}

/** What failed, why, and what to do; a stack only for what is our own fault. */
export function printError(error: unknown): void {
  const answer = daemonsAnswer(error);
  if (answer !== undefined) return note(`caisson: ${answer}`);
  note(`caisson: ${error instanceof Error ? error.message : String(error)}`);
  for (const cause of causes(error)) note(`  because: ${cause.split('\n')[0]}`);
  if (error instanceof CaissonError && error.hint !== undefined) note(`  to fix it: ${error.hint}`);
  if (!(error instanceof CaissonError) && error instanceof Error) note(error.stack ?? '');
}

/** What the daemon said, when the error came over gRPC; its stack is ours and says nothing. */
function daemonsAnswer(error: unknown): string | undefined {
  return error instanceof Error && 'details' in error && typeof error.details === 'string' ? error.details : undefined;
}

/** The messages below the outermost that say something it does not. */
function causes(error: unknown): string[] {
  const messages: string[] = [];
  let said = error instanceof Error ? error.message : '';
  for (let at = error; at instanceof Error && at.cause instanceof Error; at = at.cause) {
    const { message } = at.cause;
    if (!said.includes(message) && at.cause instanceof CaissonError) messages.push(message);
    said += message;
  }
  return messages;
}

const COLOURS = { ok: 32, warn: 33, fail: 31 } as const;

export function coloured(status: keyof typeof COLOURS, text: string): string {
  if (!process.stdout.isTTY || process.env['NO_COLOR'] !== undefined) return text;
  return `\u001b[${COLOURS[status]}m${text}\u001b[0m`;
}
