import type { Config } from '../../config/schema.ts';
import { run } from '../../lib/exec.ts';
import { isCaissonError } from '../../lib/errors.ts';
import { REPOSITORY } from '../context.ts';

export type Status = 'ok' | 'warn' | 'fail';

export interface Finding {
  readonly status: Status;
  /** what was found, in half a sentence */
  readonly message: string;
  /** the command, or the one thing to do, that mends it */
  readonly fix?: string;
}

export interface Check {
  readonly name: string;
  /** what does not work without it */
  readonly why: string;
  find(config: Config): Promise<Finding> | Finding;
}

export const SETUP = `${REPOSITORY}/bin/setup`;
const PROGRAM_TIMEOUT_MS = 10_000;

export const ok = (message: string): Finding => ({ status: 'ok', message });
export const warn = (message: string, fix: string): Finding => ({ status: 'warn', message, fix });
export const fail = (message: string, fix: string): Finding => ({ status: 'fail', message, fix });

/** What the program prints about its version; undefined when it is not installed. */
export async function versionText(
  program: string,
  args: readonly string[] = ['--version'],
): Promise<string | undefined> {
  try {
    // some print it to stderr, some exit with 1 after it
    const { stdout, stderr } = await run(program, args, { timeoutMs: PROGRAM_TIMEOUT_MS, okCodes: [0, 1] });
    return `${stdout}\n${stderr}`;
  } catch (error) {
    if (isCaissonError(error, 'failed_precondition')) return undefined;
    throw error;
  }
}

/** The first number with a dot in it: `QEMU emulator version 10.0.2 (Debian ...)` has 10.0.2. */
export function parseVersion(text: string): string | undefined {
  return /\d+(?:\.\d+)+/.exec(text)?.[0];
}

export function atLeast(version: string, least: string): boolean {
  const [have, want] = [version, least].map((text) => text.split('.').map(Number));
  for (const [i, part] of (want ?? []).entries()) {
    const difference = (have?.[i] ?? 0) - part;
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** A check that a program is there, and new enough. */
export function programCheck(program: string, why: string, least?: string, args?: readonly string[]): Check {
  return { name: program, why, find: () => findProgram(program, least, args) };
}

export async function findProgram(program: string, least?: string, args?: readonly string[]): Promise<Finding> {
  const text = await versionText(program, args);
  if (text === undefined) return fail('not installed', SETUP);
  const version = parseVersion(text);
  if (least === undefined) return ok(version ?? 'installed');
  if (version === undefined) return warn(`prints no version; ${least} or newer is needed`, SETUP);
  return atLeast(version, least) ? ok(version) : fail(`${version} is too old; ${least} or newer is needed`, SETUP);
}
