import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { describeError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { StreamingOptions } from './contracts.ts';
import type { StreamRequest } from './requests.ts';
import { portsOf, serveSpdy, serveWebSocket, type Served } from './serve.ts';
import type { Tokens } from './tokens.ts';
import { negotiate, refuse, switchToSpdy, targetOf, type Accepted, type Refusal } from './upgrade.ts';
import { acceptWebSocket } from './websocket/accept.ts';

/** A request that becomes a stream, unless its connection is lost at once. */
interface Examined extends Accepted {
  readonly request: StreamRequest;
  readonly token: string;
  /** those of a port-forward, as far as they are known already */
  readonly ports: readonly number[];
}

/** A server's connections from their upgrade to their end. Disposal ends all of them. */
export class Connections implements AsyncDisposable {
  readonly #options: StreamingOptions;
  readonly #tokens: Tokens<StreamRequest>;
  readonly #open = new Map<Duplex, Promise<void>>();

  constructor(server: Server, tokens: Tokens<StreamRequest>, options: StreamingOptions) {
    this.#options = options;
    this.#tokens = tokens;
    const { log } = options;
    server.on('upgrade', (incoming, socket, head) => this.#upgrade(incoming, socket, head));
    server.on('request', (incoming, response) => this.#refusePlain(incoming, response));
    server.on('clientError', (err, socket) => {
      log.debug({ err }, 'a streaming client sent no HTTP');
      if (socket.writable) refuse(socket, { status: 400, message: 'this is no HTTP request' });
      else socket.destroy();
    });
  }

  #upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', (err) => this.#options.log.debug({ err }, 'the connection of a streaming client failed'));
    const examined = this.#examine(incoming);
    if ('status' in examined) {
      refuse(socket, examined);
      return;
    }
    const { request, token, transport, protocol, ports } = examined;
    const { idleTimeoutMs, streams: service } = this.#options;
    const log = this.#options.log.child(fields(examined));
    const options = { idleTimeoutMs, service, protocol, ports, log };
    if (transport === 'spdy') {
      this.#tokens.take(token);
      switchToSpdy(socket, protocol);
      if (head.length > 0) socket.unshift(head);
      this.#track(socket, log, serveSpdy(socket, request, options));
      return;
    }
    acceptWebSocket(incoming, socket, head, protocol, (webSocket) => {
      this.#tokens.take(token);
      this.#track(socket, log, serveWebSocket(webSocket, request, options));
    });
  }

  /** What a request has a right to, or why it has none. Uses no token up: a client may try another protocol. */
  #examine(incoming: IncomingMessage): Examined | Refusal {
    const target = targetOf(incoming);
    const request = target && this.#tokens.peek(target.token);
    if (!target || request?.kind !== target.kind) return { status: 404, message: 'no such stream' };
    const accepted = negotiate(incoming, request.kind);
    if ('status' in accepted) return accepted;
    const ports = request.kind === 'portforward' ? portsOf(incoming, request.ports, accepted) : [];
    if (!ports) return { status: 400, message: 'name the ports to forward, such as ?port=80&port=443' };
    return { ...accepted, request, token: target.token, ports };
  }

  #refusePlain(incoming: IncomingMessage, response: ServerResponse): void {
    const examined = this.#examine(incoming);
    const refusal =
      'status' in examined ? examined : { status: 400, message: 'unable to upgrade: no Connection: Upgrade' };
    response.writeHead(refusal.status, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' });
    response.end(refusal.message);
  }

  #track(socket: Duplex, log: Logger, serving: Promise<Served>): void {
    const startedMs = performance.now();
    const ended = async (): Promise<void> => {
      try {
        const outcome = await serving;
        log.info({ ...summary(outcome), ms: Math.round(performance.now() - startedMs) }, 'stream ended');
      } catch (err) {
        log.warn({ err }, 'stream failed');
      } finally {
        socket.destroy();
        this.#open.delete(socket);
      }
    };
    this.#open.set(socket, ended());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = [...this.#open];
    for (const [socket] of open) socket.destroy();
    await Promise.all(open.map(([, ended]) => ended));
  }
}

/** Never the command, which may hold secrets. */
function fields({ request, transport, protocol }: Examined): Record<string, unknown> {
  const { kind } = request;
  const target = kind === 'portforward' ? { sandboxId: request.sandboxId } : { containerId: request.containerId };
  return { stream: kind, ...target, transport, protocol };
}

function summary(outcome: Served): Record<string, unknown> {
  if (!outcome) return { outcome: 'the client left' };
  return 'error' in outcome ? { outcome: describeError(outcome.error) } : { exitCode: outcome.exitCode };
}
