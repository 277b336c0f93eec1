import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { tail } from '../../../src/lib/exec.ts';

/** Where bin/setup kubelet puts what it builds of test/kubelet/go.mod. */
export const PROGRAMS = join(import.meta.dirname, '../../../.cache/bin');

/** A program of the cluster that runs until it is stopped; its output goes to a file. */
export interface Program extends AsyncDisposable {
  readonly pid: number;
  readonly running: boolean;
  /** Returns when it has ended; SIGTERM if left out, SIGKILL when that does not help. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** the end of its output */
  lastLines(count: number): Promise<string>;
}

const STOP_TIMEOUT_MS = 15_000;

/** In a session of its own, so that Ctrl-C reaches it through us only. */
export async function startProgram(path: string, args: readonly string[], logFile: string): Promise<Program> {
  await using log = await open(logFile, 'a');
  const child = spawn(path, args, { stdio: ['ignore', log.fd, log.fd], detached: true });
  await once(child, 'spawn');
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    if (!isRunning()) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const kill = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(kill);
  };
  return {
    pid: child.pid ?? 0,
    get running() {
      return isRunning();
    },
    stop,
    lastLines: async (count) => `${basename(path)}: ${tail(await readFile(logFile, 'utf8'), count)}`,
    [Symbol.asyncDispose]: () => stop(),
  };
}
