import { CaissonError, isCaissonError } from '../../lib/errors.ts';
import { run, tail } from '../../lib/exec.ts';
import type { RunResult } from '../../lib/exec.ts';
import { findPlugin } from './config.ts';
import { pluginErrorSchema } from './types.ts';
import type { PluginError, PluginRunner } from './types.ts';

export type CniCommand = 'ADD' | 'CHECK' | 'DEL' | 'STATUS';

export interface PluginCall {
  readonly type: string;
  readonly command: CniCommand;
  /** CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS: those that the command takes */
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: object;
}

const ANY_EXIT_CODE = Array.from({ length: 256 }, (_, code) => code);
const MAX_MESSAGE = 600;
/**
 * `ms` that a cancelled plugin has to finish. Killed half-way through it leaves what its DEL does not mend: a bridge whose
 * first port has gone again has no address, and the plugin's next ADD there fails.
 */
const FINISH_MS = 2000;
/** `ms` that run() has to kill a late or cancelled plugin before we stop waiting for it */
const KILL_GRACE_MS = 2500;

/**
 * Runs one plugin and returns what it printed. Throws CaissonError that names plugin and command: `unavailable` with
 * the plugin's own error as its cause (see `pluginErrorOf`), `deadline_exceeded`, or `cancelled`.
 */
export async function execPlugin(runner: PluginRunner, call: PluginCall, signal?: AbortSignal): Promise<string> {
  const what = `CNI plugin ${call.type} (${call.command})`;
  if (signal?.aborted === true) throw new CaissonError('cancelled', `${what} was cancelled`);
  const file = await findPlugin(call.type, runner.binDirs);
  const result = await runPlugin(file, runner, call, signal).catch((error: unknown) => {
    throw namePlugin(error, what, runner.timeoutMs);
  });
  if (result.exitCode === 0) return result.stdout;
  const error = readError(result.stdout);
  if (error) throw new CaissonError('unavailable', `${what} failed: ${explain(error)}`, { cause: error });
  const said = clip(tail(result.stderr) || tail(result.stdout) || 'it printed nothing');
  throw new CaissonError('unavailable', `${what} failed with exit code ${result.exitCode}: ${said}`);
}

/** The error that the plugin itself reported, if `error` comes from one that did. */
export function pluginErrorOf(error: unknown): PluginError | undefined {
  if (!isCaissonError(error)) return undefined;
  return pluginErrorSchema.safeParse(error.cause).data;
}

async function runPlugin(
  file: string,
  runner: PluginRunner,
  call: PluginCall,
  signal?: AbortSignal,
): Promise<RunResult> {
  using kill = later(FINISH_MS, signal);
  const child = run(file, [], {
    input: JSON.stringify(call.stdin),
    env: { ...call.env, CNI_COMMAND: call.command, CNI_PATH: runner.binDirs.join(':') },
    timeoutMs: runner.timeoutMs,
    signal: kill.signal,
    okCodes: ANY_EXIT_CODE,
    ownGroup: true, // its IPAM plugin is to end with it
    phase: `CNI ${call.command} ${call.type}`,
  });
  return await endOrGiveUp(child, runner.timeoutMs, kill.signal);
}

/** A signal that aborts `ms` after the given one, unless it is disposed before. */
function later(ms: number, signal?: AbortSignal): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => controller.abort(signal?.reason), ms);
  };
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    },
  };
}

/**
 * Waits for the plugin's end, so that DEL never runs beside a dying ADD, but not for ever: what has left the plugin's
 * process group may keep the pipes open, and then run() does not return.
 */
async function endOrGiveUp<T>(child: Promise<T>, timeoutMs: number, signal?: AbortSignal): Promise<T> {
  const { promise: givenUp, reject } = Promise.withResolvers<never>();
  const giveUp = (code: 'deadline_exceeded' | 'cancelled'): void =>
    reject(new CaissonError(code, 'the plugin is stuck'));
  let timer = setTimeout(giveUp, timeoutMs + KILL_GRACE_MS, 'deadline_exceeded');
  const onAbort = (): void => {
    clearTimeout(timer);
    timer = setTimeout(giveUp, KILL_GRACE_MS, 'cancelled');
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([child, givenUp]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

function namePlugin(error: unknown, what: string, timeoutMs: number): unknown {
  if (isCaissonError(error, 'deadline_exceeded')) {
    return new CaissonError('deadline_exceeded', `${what} did not finish within ${timeoutMs} ms`, { cause: error });
  }
  if (isCaissonError(error, 'cancelled'))
    return new CaissonError('cancelled', `${what} was cancelled`, { cause: error });
  if (!(error instanceof Error)) return error;
  return new CaissonError('unavailable', `${what} could not be run: ${clip(error.message)}`, { cause: error });
}

function readError(stdout: string): PluginError | undefined {
  try {
    return pluginErrorSchema.safeParse(JSON.parse(stdout)).data;
  } catch {
    return undefined;
  }
}

function explain(error: PluginError): string {
  const details = error.details === '' ? '' : `: ${error.details}`;
  return `${clip(error.msg + details)} (code ${error.code})`;
}

function clip(text: string): string {
  return text.length <= MAX_MESSAGE ? text : `${text.slice(0, MAX_MESSAGE)}…`;
}
