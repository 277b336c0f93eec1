import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { peekExited, reap, type ProcessEnd } from './native.ts';

/**
 * Reaps what crun leaves to the agent. Node waits for its own children only, by pid; everything else that is
 * re-parented to process 1 is reaped here: containers and execs, whose exit code somebody waits for, and orphans.
 */
const waiting = new Map<number, (end: ProcessEnd) => void>();
/** ended before anybody asked: a process may be gone before crun has told its pid */
const early = new Map<number, { readonly end: ProcessEnd; readonly order: number }>();
let reaped = 0;
const nodeChildren = new Set<number>();
const MAX_EARLY = 1024;

export function startReaper(): void {
  process.on('SIGCHLD', () => setImmediate(drain));
}

/** To be asked before a process is started whose end is then waited for. */
export const reaperMark = (): number => reaped;

/**
 * Resolves with the end of a process that crun started after `mark`: an earlier one of the same pid was another.
 */
export function waitForExit(pid: number, mark: number): Promise<ProcessEnd> {
  const ended = early.get(pid);
  early.delete(pid);
  if (ended !== undefined && ended.order > mark) return Promise.resolve(ended.end);
  return new Promise((resolve) => waiting.set(pid, resolve));
}

/** Node's spawn, known to the reaper: for children that pass streams. All others: program.ts. */
export function startChild(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, options);
  const { pid } = child;
  if (pid !== undefined) {
    nodeChildren.add(pid);
    child.once('exit', () => {
      nodeChildren.delete(pid);
      drain();
    });
  }
  return child;
}

function drain(): void {
  for (;;) {
    const ended = peekExited();
    // Node reaps its own child and its exit event brings us back
    if (ended === undefined || nodeChildren.has(ended.pid)) return;
    reap(ended.pid);
    reaped++;
    const resolve = waiting.get(ended.pid);
    waiting.delete(ended.pid);
    if (resolve) resolve(ended);
    else remember(ended.pid, ended);
  }
}

function remember(pid: number, end: ProcessEnd): void {
  early.set(pid, { end, order: reaped });
  const [oldest] = early.keys();
  if (early.size > MAX_EARLY && oldest !== undefined) early.delete(oldest);
}
