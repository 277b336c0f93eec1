/** How a command ended, as the error channel tells it: a Kubernetes Status in JSON. */
import { z } from 'zod';
import { CaissonError } from '../../lib/errors.ts';

/** `word`: our error code, such as `not_found`, if the daemon names one. */
export type CommandEnd = { readonly exitCode: number } | { readonly failure: string; readonly word: string };

const cause = z.object({ reason: z.string().default(''), message: z.string().default('') });
const schema = z.object({
  status: z.string(),
  message: z.string().default(''),
  reason: z.string().default(''),
  details: z.object({ causes: z.array(cause).default([]) }).optional(),
});

export function parseStatus(text: string): CommandEnd {
  const { status, message, reason, details } = parse(text);
  if (status === 'Success') return { exitCode: 0 };
  const causes = details?.causes ?? [];
  if (reason !== 'NonZeroExitCode') return { failure: message, word: causes[0]?.reason ?? '' };
  const code = causes.find((one) => one.reason === 'ExitCode')?.message ?? '';
  if (!/^\d{1,3}$/.test(code)) throw unreadable(text);
  return { exitCode: Number(code) };
}

function parse(text: string): z.infer<typeof schema> {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw unreadable(text, error);
  }
}

function unreadable(text: string, error?: unknown): CaissonError {
  return new CaissonError('internal', `the daemon ended the stream with ${text.slice(0, 200)}`, { cause: error });
}
