import { CaissonError } from '../../lib/errors.ts';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time, or how long ago, such as `90s` or `1h30m`; as a log has it, so that it compares as text. */
export function parseSince(text: string, nowMs = Date.now()): string {
  const ms = durationMs(text);
  const atMs = ms === undefined ? Date.parse(text) : nowMs - ms;
  const isTime = ms !== undefined || /^\d{4}-\d\d-\d\d/.test(text);
  if (!isTime || !Number.isFinite(atMs) || Math.abs(atMs) > 8.64e15)
    throw new CaissonError('invalid_argument', `${JSON.stringify(text)} is no time`, {
      hint: 'how long ago, such as 10m or 1h30m, or a time such as 2026-01-02T15:04:05Z',
    });
  return new Date(atMs).toISOString().replace(/\.(\d{3})Z$/, '.$1000000Z');
}

function durationMs(text: string): number | undefined {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== text) return undefined;
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_MS[unit ?? ''] ?? 0), 0);
}
