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
  const stdin = pipe();
  const stderr = unnamedFile();
  const program = startProgram(command, args, { stdin: stdin.read, stderr });
  closeSync(stdin.read);
  return {
    finish: (input) => {
      try {
        writeSync(stdin.write, input);
      } catch (error) {
        // a program that has ended early says why on stderr
        if (!isErrno(error, 'EPIPE')) throw error;
      } finally {
        closeSync(stdin.write);
      }
      return endOf(program, `${command} ${args[0] ?? ''}`, stderr);
    },
  };
}

/** Runs a program of the VM's root to its end; throws `internal` with its last words when it fails. */
export async function runCommand(command: string, args: readonly string[], input: Buffer | string = ''): Promise<void> {
  const stdin = unnamedFile(input);
  try {
    const stderr = unnamedFile();
    await endOf(startProgram(command, args, { stdin, stderr }), `${command} ${args.join(' ')}`, stderr);
  } finally {
    closeSync(stdin);
  }
}

async function endOf({ exited }: Program, what: string, stderr: number): Promise<void> {
  try {
    const { code } = await exited;
    if (code === 0) return;
    const words = readWhole(stderr).trim().slice(-MAX_WORDS) || `exit code ${code}`;
    throw new CaissonError('internal', `${what} failed in the guest: ${words}`);
  } finally {
    closeSync(stderr);
  }
}
