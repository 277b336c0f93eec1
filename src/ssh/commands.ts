/** What runs in the container for a request. */
import { constants } from 'node:os';
import { isCaissonError } from '../lib/errors.ts';
import type { ProcessExit } from '../pod/contracts.ts';

/** bash where there is one, as people expect of ssh. Not as a login shell: /etc/profile would replace the image's PATH. */
export const SHELL: readonly string[] = ['sh', '-c', 'command -v bash >/dev/null 2>&1 && exec bash; exec sh'];

export const shellCommand = (command: string): readonly string[] => ['sh', '-c', command];

/** For images without a shell: the words of a command that a shell would take as they are. */
export function plainWords(command: string): readonly string[] | undefined {
  return /^[\w@%+=:,./ -]+$/.test(command) && command.trim() !== '' ? command.trim().split(/ +/) : undefined;
}

/** Those that RFC 4254 names. */
const SIGNALS = 'ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2'.split(' ');
const numbers: ReadonlyMap<string, number> = new Map(
  Object.entries(constants.signals).map(([name, number]) => [name.slice('SIG'.length), number]),
);

/** The number of what a client calls `INT` or `SIGINT`. */
export function signalNumber(name: string): number | undefined {
  return numbers.get(name.replace(/^SIG/, ''));
}

/** As the client is told: signals that the protocol has no name for are 128 + n. */
export function exitMessage({ code, signal }: ProcessExit): { readonly code: number } | { readonly signal: string } {
  const name = SIGNALS.find((candidate) => numbers.get(candidate) === signal);
  return name === undefined ? { code } : { signal: name };
}

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
const FAILED = 255;

/** The exit code of a command that could not be run, as a shell and ssh itself have it. */
export function codeOfError(error: unknown, hasTarget: boolean): number {
  if (hasTarget && isCaissonError(error, 'permission_denied')) return NOT_EXECUTABLE;
  return hasTarget && isCaissonError(error, 'not_found') ? NOT_FOUND : FAILED;
}
