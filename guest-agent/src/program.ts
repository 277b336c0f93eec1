import { openSync } from 'node:fs';
import type { ProcessEnd } from './native.ts';
import { reaperMark, waitForExit } from './reaper.ts';
import { spawnProgram } from './spawn.ts';

/** Descriptors of a program's standard streams; what is left out is /dev/null. */
export interface ProgramStreams {
  readonly stdin?: number | undefined;
  readonly stdout?: number | undefined;
  readonly stderr?: number | undefined;
}

export interface Program {
  readonly pid: number;
  readonly exited: Promise<ProcessEnd>;
}

const devNull = openSync('/dev/null', 'r+');
const ownEnvironment = Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ''}`);

/** Starts a program of the VM's root. Throws an Error with `code` when it is not there. */
export function startProgram(
  path: string,
  args: readonly string[],
  { stdin = devNull, stdout = devNull, stderr = devNull }: ProgramStreams,
  extraEnvironment: readonly string[] = [],
): Program {
  const mark = reaperMark();
  const pid = spawnProgram(path, args, [...ownEnvironment, ...extraEnvironment], [stdin, stdout, stderr]);
  return { pid, exited: waitForExit(pid, mark) };
}
