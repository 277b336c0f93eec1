/** Runs the real bin/caisson. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';

export const CAISSON = resolve(import.meta.dirname, '../../bin/caisson');
const TIMEOUT_MS = 120_000;

export interface CliEnd {
  /** 128 + n when a signal killed it, which it should not let happen */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliProcess {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<CliEnd>;
  /** Waits until what was printed so far has it; throws when the process ends first. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
}

export function startCli(args: readonly string[], program = CAISSON): CliProcess {
  const child = spawn(program, args, { timeout: TIMEOUT_MS, killSignal: 'SIGKILL' });
  // what it does not read any more is part of many tests
  child.stdin.on('error', () => undefined);
  let seen = '';
  child.stdout.on('data', (chunk: Buffer) => {
    seen += chunk.toString();
    child.emit('seen');
  });
  const ended = endOf(child);
  return {
    child,
    ended,
    printed: async (pattern) => {
      for (;;) {
        const match = pattern.exec(seen);
        if (match) return match;
        const end = await Promise.race([ended, once(child, 'seen').then(() => undefined)]);
        if (end && !pattern.test(seen)) throw new Error(`${pattern} was not printed: ${JSON.stringify(end)}`);
      }
    },
  };
}

/** `input`: all of its stdin. */
export async function runCli(args: readonly string[], input: string | Buffer = ''): Promise<CliEnd> {
  const { child, ended } = startCli(args);
  child.stdin.end(input);
  return await ended;
}

/** On a terminal of its own; `setup` are shell commands on it before. What is typed is the child's stdin. */
export function startOnTerminal(args: readonly string[], setup = 'true'): CliProcess {
  const line = [CAISSON, ...args].map(quoted).join(' ');
  // the shell tells afterwards whether the terminal is as it was
  const script = `${setup}; set=$(stty -g); ${line}; code=$?; [ "$(stty -g)" = "$set" ] && echo restored; exit $code`;
  return startCli(['--quiet', '--return', '--command', `sh -c ${quoted(script)}`, '/dev/null'], 'script');
}

const quoted = (word: string): string => `'${word.replaceAll("'", String.raw`'\''`)}'`;

async function endOf(child: ChildProcessWithoutNullStreams): Promise<CliEnd> {
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const [stdout, stderr, [code, signal]] = await Promise.all([buffer(child.stdout), buffer(child.stderr), closed]);
  return { code: code ?? (signal ? 128 : -1), stdout: stdout.toString('latin1'), stderr: stderr.toString() };
}
