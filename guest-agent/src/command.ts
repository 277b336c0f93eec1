import { closeSync, writeSync } from 'node:fs';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';
import { pipe } from './native.ts';
import { startProgram, type Program } from './program.ts';
import { readWhole, unnamedFile } from './small-files.ts';

const MAX_WORDS = 4096;

/** A program that waits for its input. */
export interface StartedCommand {
  /** Gives it all of its input; returns when it has ended, throws with its last words when it failed. */
  finish(input: string): Promise<void>;
}

/** Starts a program of the VM's root that reads its input, some KiB, as it goes. */
export function startCommand(command: string, args: readonly string[]): StartedCommand {
  using undo = new DisposableStack();
  const stdin = pipe();
  using _given = closing(stdin.read);
  undo.use(closing(stdin.write));
  const stderr = unnamedFile();
  undo.use(closing(stderr));
  const program = startProgram(command, args, { stdin: stdin.read, stderr });
  undo.move();
  return {
    finish: async (input) => {
      using _stderr = closing(stderr);
      try {
        writeSync(stdin.write, input);
      } catch (error) {
        // a program that has ended early says why on stderr
        if (!isErrno(error, 'EPIPE')) throw error;
      } finally {
        closeSync(stdin.write);
      }
      await endOf(program, `${command} ${args[0] ?? ''}`, stderr);
    },
  };
}

/** Runs a program of the VM's root to its end; throws `internal` with its last words when it fails. */
export async function runCommand(command: string, args: readonly string[], input: Buffer | string = ''): Promise<void> {
  const stdin = unnamedFile(input);
  using _stdin = closing(stdin);
  const stderr = unnamedFile();
  using _stderr = closing(stderr);
  await endOf(startProgram(command, args, { stdin, stderr }), `${command} ${args.join(' ')}`, stderr);
}

const closing = (fd: number): Disposable => ({ [Symbol.dispose]: () => closeSync(fd) });

async function endOf({ exited }: Program, what: string, stderr: number): Promise<void> {
  const { code } = await exited;
  if (code === 0) return;
  const words = readWhole(stderr).trim().slice(-MAX_WORDS) || `exit code ${code}`;
  throw new CaissonError('internal', `${what} failed in the guest: ${words}`);
}
