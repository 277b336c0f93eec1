/** What CRI's Exec, Attach and PortForward call: they get a URL that works once, for a minute. */
import type { Logger } from '../lib/logger.ts';
import type { StreamService, StreamsWanted } from '../pod/contracts.ts';

export interface StreamingOptions {
  /** an address of this host; the URLs name it */
  readonly address: string;
  /** 0 for a free one */
  readonly port: number;
  /** PEM files; plain HTTP without */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  /** `ms` without a byte or a ping either way, after which a connection is closed; 0: never */
  readonly idleTimeoutMs: number;
  readonly streams: StreamService;
  readonly log: Logger;
}

export interface ExecUrlRequest extends StreamsWanted {
  /** id or unambiguous prefix */
  readonly containerId: string;
  readonly command: readonly string[];
  readonly tty: boolean;
}

export interface AttachUrlRequest extends StreamsWanted {
  /** id or unambiguous prefix */
  readonly containerId: string;
  /** what the client thinks; the container's own counts */
  readonly tty: boolean;
}

export interface PortForwardUrlRequest {
  /** id or unambiguous prefix */
  readonly sandboxId: string;
  /** for WebSocket clients that name none themselves; may be empty */
  readonly ports: readonly number[];
}

/**
 * Each method checks its request and its target now, so that a CRI handler only passes on what it got:
 * `invalid_argument` for no command, no stream at all, a terminal with stderr, or a port out of range; `not_found` and
 * `failed_precondition` as `StreamService.streamable` and `forwardable`; `resource_exhausted` with too many URLs pending.
 */
export interface StreamingServer {
  /** absolute, such as `http://127.0.0.1:34567` */
  readonly baseUrl: string;
  execUrl(request: ExecUrlRequest): string;
  attachUrl(request: AttachUrlRequest): string;
  portForwardUrl(request: PortForwardUrlRequest): string;
}
