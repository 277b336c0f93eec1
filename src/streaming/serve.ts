/** Serves one connection from its upgrade to its end. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { assertNever } from '../lib/errors.ts';
import { shortId } from '../lib/ids.ts';
import type { StreamService } from '../pod/contracts.ts';
import type { ConnectionOptions } from './connection.ts';
import { runCommand, type CommandEnds, type OpenProcess } from './remote-command.ts';
import type { StreamRequest } from './requests.ts';
import * as spdyCommand from './spdy/remote-command.ts';
import { parsePort, servePortForward } from './spdy/port-forward.ts';
import type { Outcome } from './status.ts';
import type { Accepted } from './upgrade.ts';
import { COMMAND_PROTOCOLS, PORT_CHANNEL_PROTOCOLS, TUNNEL_PROTOCOL } from './websocket/protocols.ts';
import { MAX_PORTS, servePortChannels } from './websocket/port-forward.ts';
import * as webSocketCommand from './websocket/remote-command.ts';
import { WebSocketTunnel } from './websocket/tunnel.ts';

export interface ServeOptions extends ConnectionOptions {
  readonly service: StreamService;
  readonly protocol: string;
  /** of a port-forward whose protocol does not name them itself */
  readonly ports: readonly number[];
}

/** How a connection ended; undefined when the client left first. */
export type Served = Outcome | undefined;

export async function serveSpdy(socket: Duplex, request: StreamRequest, options: ServeOptions): Promise<Served> {
  if (request.kind === 'portforward') {
    await servePortForward(socket, { ...options, ...dialling(request, options.service) });
    return undefined;
  }
  const run = running(request, options.service);
  return spdyCommand.serveCommand(socket, { ...options, streams: request.streams, run });
}

export async function serveWebSocket(
  socket: WebSocket,
  request: StreamRequest,
  options: ServeOptions,
): Promise<Served> {
  const { idleTimeoutMs, log, service, protocol } = options;
  const connection = { idleTimeoutMs, log };
  if (request.kind === 'portforward') {
    const dial = dialling(request, service);
    if (protocol === TUNNEL_PROTOCOL) {
      await servePortForward(new WebSocketTunnel(socket), { ...connection, ...dial });
      return undefined;
    }
    const channels = PORT_CHANNEL_PROTOCOLS[protocol];
    if (!channels) throw new Error(`protocol ${protocol} was not offered`);
    await servePortChannels(socket, { ...connection, ...dial, protocol: channels, ports: options.ports });
    return undefined;
  }
  const channels = COMMAND_PROTOCOLS[protocol];
  if (!channels) throw new Error(`protocol ${protocol} was not offered`);
  const run = running(request, service);
  return webSocketCommand.serveCommand(socket, { ...connection, protocol: channels, streams: request.streams, run });
}

/**
 * Those of the URL, else those that the client asks for in its query: `?port=80&port=443` or `?ports=80,443`. Undefined
 * when there are none, or too many, for a protocol that needs them.
 */
export function portsOf(
  { url = '' }: IncomingMessage,
  named: readonly number[],
  { transport, protocol }: Accepted,
): readonly number[] | undefined {
  if (transport === 'spdy' || protocol === TUNNEL_PROTOCOL) return [];
  const query = new URLSearchParams(url.split('?')[1] ?? '');
  const texts = [...query.getAll('port'), ...query.getAll('ports')].flatMap((text) => text.split(','));
  const ports = named.length > 0 ? named : texts.map(parsePort);
  if (ports.length === 0 || ports.length > MAX_PORTS) return undefined;
  return ports.every((port) => port !== undefined) ? ports : undefined;
}

type CommandRequest = Exclude<StreamRequest, { kind: 'portforward' }>;

function running(request: CommandRequest, service: StreamService): (ends: CommandEnds) => Promise<Outcome> {
  const open = opening(request, service);
  if (request.kind === 'exec') return (ends) => runCommand(open, ends);
  // that an attached container failed is told by its status, as with other runtimes
  return async (ends) => {
    const outcome = await runCommand(open, ends);
    return 'error' in outcome ? outcome : { exitCode: 0 };
  };
}

function opening(request: CommandRequest, service: StreamService): OpenProcess {
  const { containerId, streams } = request;
  switch (request.kind) {
    case 'exec':
      return async (signal, firstSize) => {
        const size = streams.tty ? await firstSize() : undefined;
        return service.execStream(containerId, { ...streams, command: request.command, ...(size && { size }) }, signal);
      };
    case 'attach': {
      const { stdin, stdout, stderr } = streams;
      return (signal) => service.attach(containerId, { stdin, stdout, stderr }, signal);
    }
    default:
      return assertNever(request);
  }
}

function dialling({ sandboxId }: Extract<StreamRequest, { kind: 'portforward' }>, service: StreamService) {
  return {
    dial: (port: number, signal: AbortSignal) => service.portForward(sandboxId, port, signal),
    describe: (port: number) => `port ${port} to pod ${shortId(sandboxId)}`,
  };
}
