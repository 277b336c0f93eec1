/** The CRI edge: serves runtime.v1's two services and our own on a unix socket. Validates, calls pods and images, maps errors. */
import { Server } from '@grpc/grpc-js';
import type { ProtoGrpcType as ExtensionsProto } from '../../proto/generated/extensions/extensions.ts';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import { withTimeout } from '../lib/async.ts';
import { CaissonError, isCaissonError } from '../lib/errors.ts';
import { loadProto } from '../lib/grpc/load.ts';
import type { Logger } from '../lib/logger.ts';
import { extensions } from './extensions/index.ts';
import { imageService } from './image-service/index.ts';
import type { CriOptions } from './options.ts';
import { runtimeService } from './runtime-service/index.ts';
import { bindUnixSocket } from './socket.ts';
import { unimplemented } from './unimplemented.ts';

export type { CriOptions, CriServices, RuntimeFeatures, RuntimeState } from './options.ts';

const MIB = 1024 * 1024;
const DEFAULT_SHUTDOWN_GRACE_MS = 5000;

/** The kubelet sends 16 MiB at most; an ExecSync answer may hold twice that, a list of everything more. */
const serverOptions = {
  'grpc.max_receive_message_length': 16 * MIB,
  'grpc.max_send_message_length': 80 * MIB,
};

/**
 * Serves until the returned handle is disposed, which removes the socket, lets running RPCs finish for the grace and
 * then cancels them. Throws what `bindUnixSocket` throws, among it `failed_precondition` when another daemon serves.
 */
export async function serveCri(options: CriOptions): Promise<AsyncDisposable> {
  const { socketPath, version, log, shutdownGraceMs = DEFAULT_SHUTDOWN_GRACE_MS } = options;
  const { RuntimeService, ImageService } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1;
  const { Extensions } = loadProto<ExtensionsProto>('extensions/v1/extensions.proto').caisson.v1;
  const server = new Server(serverOptions);
  const closing = new AbortController();
  server.addService(RuntimeService.service, {
    ...unimplemented(RuntimeService.service, version, log),
    ...runtimeService(options, log, closing.signal),
  });
  server.addService(ImageService.service, {
    ...unimplemented(ImageService.service, version, log),
    ...imageService(options, log),
  });
  server.addService(Extensions.service, extensions(options, log));

  await using undo = new AsyncDisposableStack();
  undo.defer(async () => {
    closing.abort(new CaissonError('unavailable', 'the runtime is being shut down'));
    await shutDown(server, shutdownGraceMs, log);
  });
  undo.use(await bindUnixSocket(server, socketPath));
  log.info({ socketPath }, 'serving CRI');
  return undo.move();
}

async function shutDown(server: Server, graceMs: number, log: Logger): Promise<void> {
  const { promise: drained, resolve } = Promise.withResolvers<void>();
  server.tryShutdown(() => resolve());
  try {
    await withTimeout(drained, graceMs, 'the end of the running RPCs');
  } catch (error) {
    if (!isCaissonError(error, 'deadline_exceeded')) throw error;
    log.warn({ graceMs }, 'RPCs still run at shutdown, cancelling them');
    server.forceShutdown();
  }
}
