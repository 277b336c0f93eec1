/** The streaming edge: exec, attach and port-forward for clients that have a URL, over SPDY/3.1 or WebSocket. */
import { Connections } from './connections.ts';
import type { StreamingOptions, StreamingServer } from './contracts.ts';
import { openHttpServer } from './http-server.ts';
import { attachRequest, execRequest, portForwardRequest, type StreamRequest } from './requests.ts';
import { Tokens } from './tokens.ts';

export type * from './contracts.ts';

/** Serves until it is disposed, which ends all connections. `failed_precondition` when it cannot listen. */
export async function openStreaming(options: StreamingOptions): Promise<StreamingServer & AsyncDisposable> {
  const { streams, log } = options;
  await using stack = new AsyncDisposableStack();
  const { server, baseUrl } = stack.use(await openHttpServer(options));
  const tokens = new Tokens<StreamRequest>();
  stack.use(new Connections(server, tokens, options));
  log.info({ baseUrl }, 'serving streams');
  const issue = (request: StreamRequest): string => `${baseUrl}/${request.kind}/${tokens.issue(request)}`;
  const release = stack.move();
  return {
    baseUrl,
    execUrl: (request) => issue(execRequest(request, streams)),
    attachUrl: (request) => issue(attachRequest(request, streams)),
    portForwardUrl: (request) => issue(portForwardRequest(request, streams)),
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}
