import { status } from '@grpc/grpc-js';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Command } from 'commander';
import type { Config } from '../../config/schema.ts';
import { configOf } from '../context.ts';
import { connectDaemon, type DaemonConnection } from '../cri-client.ts';
import { note, print, printError } from '../output.ts';
import { FORWARD_PROTOCOL, forwardOver } from '../streams/forwarded.ts';
import { leaveOnSignals } from '../streams/leaving.ts';
import { openWebSocket } from '../streams/websocket.ts';
import { listenLocally } from './listen.ts';
import { parsePorts } from './ports.ts';
import { findPod, podName, takeInventory, type Pod } from './target.ts';

/** Runs until a signal, or until the pod is no more. */
export async function portForward(target: string, specs: readonly string[], command: Command): Promise<void> {
  const pairs = specs.map(parsePorts);
  const config = await configOf(command);
  using leaving = leaveOnSignals();
  using daemon = await connectDaemon(config.socket);
  const pod = findPod(await takeInventory(daemon, command.opts<{ namespace?: string }>().namespace), target);
  // what would be refused for each connection is refused now
  await urlFor(daemon, pod);
  const gone = new AbortController();
  const carry = async (socket: Socket, port: number): Promise<void> => {
    try {
      await carryOne(await urlFor(daemon, pod), config, socket, port);
    } catch (error) {
      socket.resetAndDestroy();
      printError(error);
      if (isOver(error)) gone.abort();
    }
  };
  await using listeners = new AsyncDisposableStack();
  for (const { local, remote } of pairs) {
    const listener = listeners.use(await listenLocally(local, (socket) => void carry(socket, remote)));
    for (const address of listener.addresses) print(`${address} -> ${podName(pod)}:${remote}`);
  }
  const over = AbortSignal.any([leaving.signal, gone.signal]);
  if (!over.aborted) await once(over, 'abort');
  process.exitCode = gone.signal.aborted ? 1 : leaving.exitCode;
}

async function urlFor({ runtime }: DaemonConnection, pod: Pod): Promise<string> {
  return (await runtime.PortForward({ pod_sandbox_id: pod.id, port: [] })).url;
}

/** No other connection will fare better. */
function isOver(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === status.NOT_FOUND || code === status.FAILED_PRECONDITION;
}

/** Each direction ends by itself; what is cut off on one side is reset on the other. */
async function carryOne(url: string, config: Config, socket: Socket, port: number): Promise<void> {
  const tunnel = await openWebSocket(url, FORWARD_PROTOCOL, config);
  const { data, problem } = forwardOver(tunnel, port);
  tunnel.resume();
  socket.on('close', () => data.destroy());
  data.on('close', () => {
    if (!data.readableEnded) socket.resetAndDestroy();
  });
  if (socket.destroyed) data.destroy();
  socket.pipe(data);
  data.pipe(socket, { end: false });
  const words = await problem;
  if (words !== '') {
    note(`caisson: ${words}`);
    socket.resetAndDestroy();
  } else if (data.readableEnded) socket.end();
  else data.once('end', () => socket.end());
}
