/** What an HTTP request must say to become a streaming connection. */
import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { REQUEST_TIMEOUT_MS } from './http-server.ts';
import { COMMAND_PROTOCOLS as SPDY_COMMAND_PROTOCOLS } from './spdy/remote-command.ts';
import { PORT_FORWARD_PROTOCOL } from './spdy/port-forward.ts';
import type { StreamRequest } from './requests.ts';
import { chooseProtocol, COMMAND_PROTOCOLS, PORT_CHANNEL_PROTOCOLS, TUNNEL_PROTOCOL } from './websocket/protocols.ts';

const SPDY = 'SPDY/3.1';
const PROTOCOL_HEADER = 'X-Stream-Protocol-Version';
const ACCEPTED_HEADER = 'X-Accepted-Stream-Protocol-Versions';

export interface Target {
  readonly kind: StreamRequest['kind'];
  readonly token: string;
}

export interface Accepted {
  readonly transport: 'spdy' | 'websocket';
  /** what is spoken inside; `''` for a WebSocket client that named nothing */
  readonly protocol: string;
}

export interface Refusal {
  /** of HTTP */
  readonly status: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Of a path such as `/exec/0123`. */
export function targetOf({ url = '' }: IncomingMessage): Target | undefined {
  const match = /^\/(exec|attach|portforward)\/([\w-]+)(?:\?|$)/.exec(url);
  const [, kind, token] = match ?? [];
  return kind !== undefined && token !== undefined ? { kind: kind as Target['kind'], token } : undefined;
}

/** The connection that the request can become, or why it cannot. */
export function negotiate(request: IncomingMessage, kind: StreamRequest['kind']): Accepted | Refusal {
  const method = request.method ?? '';
  if (method !== 'GET' && method !== 'POST') {
    return { status: 405, message: `the method is ${method}, not GET or POST`, headers: { Allow: 'GET, POST' } };
  }
  const upgrades = listed(request, 'upgrade').map((name) => name.toLowerCase());
  if (upgrades.includes('websocket')) return negotiateWebSocket(request, kind);
  if (upgrades.includes(SPDY.toLowerCase())) return negotiateSpdy(request, kind);
  return { status: 400, message: `unable to upgrade: the Upgrade header names neither ${SPDY} nor websocket` };
}

/** The first that the client lists: clients list the newest first, and version 5, which is not for SPDY, before it. */
function negotiateSpdy(request: IncomingMessage, kind: StreamRequest['kind']): Accepted | Refusal {
  const offered = kind === 'portforward' ? [PORT_FORWARD_PROTOCOL] : SPDY_COMMAND_PROTOCOLS;
  const wanted = listed(request, PROTOCOL_HEADER.toLowerCase());
  if (wanted.length === 0) return { status: 400, message: `unable to upgrade: ${PROTOCOL_HEADER} is missing` };
  const protocol = chooseProtocol(wanted, offered);
  if (protocol === undefined) return noneInCommon(wanted, offered, { [ACCEPTED_HEADER]: offered.join(', ') });
  return { transport: 'spdy', protocol };
}

function negotiateWebSocket(request: IncomingMessage, kind: StreamRequest['kind']): Accepted | Refusal {
  const offered =
    kind === 'portforward' ? [TUNNEL_PROTOCOL, ...Object.keys(PORT_CHANNEL_PROTOCOLS)] : Object.keys(COMMAND_PROTOCOLS);
  const wanted = listed(request, 'sec-websocket-protocol');
  const protocol = chooseProtocol(wanted, offered);
  if (protocol === undefined) return noneInCommon(wanted, offered, {});
  return { transport: 'websocket', protocol };
}

function noneInCommon(wanted: readonly string[], offered: readonly string[], headers: Record<string, string>): Refusal {
  const names = offered.filter((name) => name !== '').join(', ');
  return { status: 403, message: `the client speaks ${wanted.join(', ')}; offered are ${names}`, headers };
}

/** A header's values, whether it is repeated or has a list. */
function listed({ headersDistinct }: IncomingMessage, name: string): string[] {
  const values = (headersDistinct[name] ?? []).flatMap((value) => value.split(','));
  return values.map((value) => value.trim()).filter((value) => value !== '');
}

/** The answer after which the connection speaks SPDY. */
export function switchToSpdy(socket: Duplex, protocol: string): void {
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    `Upgrade: ${SPDY}`,
    `${PROTOCOL_HEADER}: ${protocol}`,
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
}

export function refuse(socket: Duplex, { status, message, headers = {} }: Refusal): void {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Connection: close',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(message)}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${message}`, () => socket.destroy());
  // one that does not even read that
  const timer = setTimeout(() => socket.destroy(), REQUEST_TIMEOUT_MS);
  socket.once('close', () => clearTimeout(timer));
}
