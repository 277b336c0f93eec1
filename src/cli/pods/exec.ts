import type { Command } from 'commander';
import type { WebSocket } from 'ws';
import type { Config } from '../../config/schema.ts';
import { configOf } from '../context.ts';
import { connectDaemon } from '../cri-client.ts';
import { note, printError } from '../output.ts';
import { joinCommand, COMMAND_PROTOCOL, type LocalEnds } from '../streams/command.ts';
import { leaveOnSignals } from '../streams/leaving.ts';
import type { CommandEnd } from '../streams/status.ts';
import { openWebSocket } from '../streams/websocket.ts';
import { outputTerminal, rawMode, watchSize } from '../streams/terminal.ts';
import { findContainer, takeInventory } from './target.ts';

/** As shells and other runtimes have it: the command's own codes are below these, as a rule. */
const EXIT_OURS = 125;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

interface ExecOptions {
  readonly namespace?: string;
  readonly stdin?: boolean;
  readonly tty?: boolean;
}

export async function exec(target: string, words: readonly string[], command: Command): Promise<void> {
  try {
    process.exitCode = await execIn(target, words, command.opts<ExecOptions>(), await configOf(command));
  } catch (error) {
    printError(error);
    process.exitCode = EXIT_OURS;
  }
}

/** Returns what this process shall exit with. */
async function execIn(target: string, words: readonly string[], options: ExecOptions, config: Config): Promise<number> {
  using leaving = leaveOnSignals();
  // who names no command wants a shell
  const isShell = words.length === 0;
  const stdin = options.stdin ?? isShell;
  const tty = options.tty ?? (isShell && process.stdin.isTTY && process.stdout.isTTY);
  if (tty && stdin && !process.stdin.isTTY) note('caisson: stdin is no terminal; the command gets one all the same');
  const url = await askForUrl(target, isShell ? ['sh'] : words, { stdin, tty, namespace: options.namespace }, config);
  const socket = await openWebSocket(url, COMMAND_PROTOCOL, config);
  const end = await joinOnTerminal(socket, { stdin, tty }, leaving.signal);
  return end ? exitCodeOf(end) : leaving.exitCode;
}

/** Returns with the terminal as it was before. */
async function joinOnTerminal(
  socket: WebSocket,
  { stdin, tty }: { readonly stdin: boolean; readonly tty: boolean },
  leave: AbortSignal,
): Promise<CommandEnd | undefined> {
  using raw = tty && stdin && process.stdin.isTTY ? rawMode() : undefined;
  void raw;
  const end = await joinCommand(socket, localEnds({ stdin, tty }), leave);
  leaveStdin();
  return end;
}

interface Wanted {
  readonly stdin: boolean;
  readonly tty: boolean;
  readonly namespace: string | undefined;
}

async function askForUrl(
  target: string,
  cmd: readonly string[],
  { stdin, tty, namespace }: Wanted,
  config: Config,
): Promise<string> {
  using daemon = await connectDaemon(config.socket);
  const { container } = findContainer(await takeInventory(daemon, namespace), target);
  const request = { container_id: container.id, cmd: [...cmd], stdin, tty, stdout: true, stderr: !tty };
  return (await daemon.runtime.Exec(request)).url;
}

/** This process's own streams. */
export function localEnds({ stdin, tty }: { readonly stdin: boolean; readonly tty: boolean }): LocalEnds {
  const terminal = tty ? outputTerminal() : undefined;
  return {
    stdin: stdin ? process.stdin : undefined,
    stdout: process.stdout,
    stderr: process.stderr,
    ...(terminal && { watchSize: watchSize(terminal) }),
  };
}

/** Nothing reads it any more: it must not keep this process alive. */
export function leaveStdin(): void {
  process.stdin.pause();
  process.stdin.unref?.();
}

function exitCodeOf(end: CommandEnd): number {
  if ('exitCode' in end) return end.exitCode;
  note(`caisson: ${end.failure}`);
  if (end.word === 'not_found') return EXIT_NOT_FOUND;
  return end.word === 'permission_denied' ? EXIT_NOT_EXECUTABLE : EXIT_OURS;
}
