import { CaissonError } from '../../src/lib/errors.ts';
import { startChild } from './reaper.ts';

const MAX_STDERR_BYTES = 16 * 1024;

/** A program that waits for its input. */
export interface StartedCommand {
  /** Gives it all of its input; returns when it has ended, throws with its last words when it failed. */
  finish(input: string): Promise<void>;
}

/** Starts a program of the VM's root. */
export function startCommand(command: string, args: readonly string[]): StartedCommand {
  const child = startChild(command, args, { stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR_BYTES);
  });
  child.stdin?.on('error', () => undefined); // a program that does not read its input says why on stderr
  const ended = new Promise<number | Error>((resolve) => {
    child.once('error', resolve);
    child.once('close', (status, signal) => resolve(status ?? (signal ? 128 : -1)));
  });
  return {
    finish: async (input) => {
      child.stdin?.end(input);
      const end = await ended;
      if (end === 0) return;
      if (end instanceof Error) throw end;
      const words = stderr.trim() || `exit code ${end}`;
      throw new CaissonError('internal', `${command} ${args[0] ?? ''} failed in the guest: ${words}`);
    },
  };
}

/** Runs a program of the VM's root to its end; throws with its last words when it fails. */
export async function runCommand(command: string, args: readonly string[], input = ''): Promise<void> {
  await startCommand(command, args).finish(input);
}
