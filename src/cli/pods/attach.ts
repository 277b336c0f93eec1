import type { Command } from 'commander';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { configOf } from '../context.ts';
import { connectDaemon, type DaemonConnection } from '../cri-client.ts';
import { CaissonError } from '../../lib/errors.ts';
import { note } from '../output.ts';
import { COMMAND_PROTOCOL, joinCommand } from '../streams/command.ts';
import { detachKeys } from '../streams/detach-keys.ts';
import { leaveOnSignals, type Leaving } from '../streams/leaving.ts';
import { rawMode } from '../streams/terminal.ts';
import { openWebSocket } from '../streams/websocket.ts';
import { untilEnded } from './ended.ts';
import { leaveStdin, localEnds } from './exec.ts';
import { findContainer, takeInventory } from './target.ts';

/** `ms` from the end of a container's output to its exit in the daemon's books */
const RECORDED_MS = 10_000;

interface AttachOptions {
  readonly namespace?: string;
  /** `--no-stdin` */
  readonly stdin: boolean;
}

const infoSchema = z.object({ tty: z.boolean(), stdin: z.boolean() });

/** Exits with the container's code when it has ended, with 0 when its user has detached. */
export async function attach(target: string, command: Command): Promise<void> {
  const config = await configOf(command);
  const { namespace, stdin: mayType } = command.opts<AttachOptions>();
  using leaving = leaveOnSignals();
  using daemon = await connectDaemon(config.socket);
  const { container } = findContainer(await takeInventory(daemon, namespace), target);
  const { tty, stdin: takesInput } = await streamsOf(daemon, container.id);
  const stdin = mayType && takesInput;
  const request = { container_id: container.id, stdin, tty, stdout: true, stderr: !tty };
  const { url } = await daemon.runtime.Attach(request);
  const socket = await openWebSocket(url, COMMAND_PROTOCOL, config);
  const detaching = new AbortController();
  {
    using raw = tty && stdin && process.stdin.isTTY ? rawMode() : undefined;
    const ends = localEnds({ stdin, tty });
    const input = raw && withKeys(process.stdin, () => detaching.abort());
    const leave = AbortSignal.any([leaving.signal, detaching.signal]);
    const end = await joinCommand(socket, input ? { ...ends, stdin: input } : ends, leave);
    leaveStdin();
    if (end && 'failure' in end) throw new CaissonError('unavailable', end.failure);
  }
  if (detaching.signal.aborted) note('detached; the container goes on');
  process.exitCode =
    detaching.signal.aborted || leaving.exitCode > 0 ? leaving.exitCode : await codeOf(daemon, container.id, leaving);
}

async function streamsOf({ runtime }: DaemonConnection, container_id: string): Promise<z.infer<typeof infoSchema>> {
  const { info } = await runtime.ContainerStatus({ container_id, verbose: true });
  return infoSchema.parse(JSON.parse(info['info'] ?? '{}'));
}

function withKeys(input: Readable, onDetach: () => void): Readable {
  return input.pipe(detachKeys(onDetach));
}

/** The stream says that it has ended, and not how. */
async function codeOf(daemon: DaemonConnection, id: string, leaving: Leaving): Promise<number> {
  const signal = AbortSignal.any([leaving.signal, AbortSignal.timeout(RECORDED_MS)]);
  return (await untilEnded(daemon, id, signal))?.exit_code ?? 0;
}
