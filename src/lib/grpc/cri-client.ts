/** A CRI client with promises, for the command line, demo, bench and tests. */
import { Client, connectivityState, credentials, Metadata, type ServiceDefinition } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import type { ExtensionsDefinition } from '../../../proto/generated/extensions/caisson/v1/Extensions.ts';
import type { ProtoGrpcType as ExtensionsProto } from '../../../proto/generated/extensions/extensions.ts';
import type { ProtoGrpcType } from '../../../proto/generated/runtime/api.ts';
import type { ImageServiceDefinition } from '../../../proto/generated/runtime/runtime/v1/ImageService.ts';
import type { RuntimeServiceDefinition } from '../../../proto/generated/runtime/runtime/v1/RuntimeService.ts';
import { loadProto } from './load.ts';

export interface CallOptions {
  /** `ms` from now; the client's default if left out */
  readonly deadlineMs?: number;
  /** cancels the call */
  readonly signal?: AbortSignal;
}

type Request<Method> = Method extends MethodDefinition<infer Q, object, object, object> ? Q : never;
type Answer<Method> = Method extends MethodDefinition<object, object, object, infer A> ? A : never;

/** The RPCs a service declares, without grpc-js's index signature. */
type Declared<Service> = { [Name in keyof Service as string extends Name ? never : Name]: Service[Name] };
type StreamName = `Stream${string}` | 'GetContainerEvents';

/** A method an RPC, under its CRI name. Rejects with grpc-js's ServiceError: `code`, `details`. */
export type CriClient<Service> = {
  [Name in keyof Declared<Service>]: Name extends StreamName
    ? (request?: Request<Service[Name]>, options?: CallOptions) => AsyncIterable<Answer<Service[Name]>>
    : (request?: Request<Service[Name]>, options?: CallOptions) => Promise<Answer<Service[Name]>>;
};

export interface CriConnection {
  readonly runtime: CriClient<RuntimeServiceDefinition>;
  readonly image: CriClient<ImageServiceDefinition>;
  /** Caisson's own: proto/extensions/v1 */
  readonly extensions: CriClient<ExtensionsDefinition>;
  /** Rejects when nobody answers within `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>;
  close(): void;
}

const MIB = 1024 * 1024;
const DEFAULT_DEADLINE_MS = 120_000;

/** Connects on the first call. `defaultDeadlineMs` is for calls that give none, 120 s if left out. */
export function connectCri(socketPath: string, defaultDeadlineMs = DEFAULT_DEADLINE_MS): CriConnection {
  const { RuntimeService, ImageService } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1;
  const { Extensions } = loadProto<ExtensionsProto>('extensions/v1/extensions.proto').caisson.v1;
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 80 * MIB,
    'grpc.max_send_message_length': 16 * MIB,
    // two connections of one process to one path, before and after a restart of the server, are two channels
    'grpc.use_local_subchannel_pool': 1,
  });
  return {
    runtime: promisify<RuntimeServiceDefinition>(client, RuntimeService.service, defaultDeadlineMs),
    image: promisify<ImageServiceDefinition>(client, ImageService.service, defaultDeadlineMs),
    extensions: promisify<ExtensionsDefinition>(client, Extensions.service, defaultDeadlineMs),
    ready: (timeoutMs) => ready(client, timeoutMs),
    close: () => client.close(),
  };
}

/** grpc-js's own begins to connect once more, for ever, when the client is closed meanwhile. */
async function ready(client: Client, timeoutMs: number): Promise<void> {
  const channel = client.getChannel();
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (channel.getConnectivityState(false) === connectivityState.SHUTDOWN) throw new Error('the client is closed');
    const state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    channel.watchConnectivityState(state, deadline, (error) => (error ? reject(error) : resolve()));
    await promise;
  }
}

function promisify<Service>(client: Client, service: ServiceDefinition, defaultDeadlineMs: number): CriClient<Service> {
  const methods = Object.entries(service).map(([name, method]) => {
    const start = method.responseStream ? callStream : callUnary;
    const call = (request: object = {}, options: CallOptions = {}) =>
      start(client, method, request, { deadlineMs: defaultDeadlineMs, ...options });
    return [name, call] as const;
  });
  // the names and types of the methods come from the service's own definition
  return Object.fromEntries(methods) as unknown as CriClient<Service>;
}

type MethodCodec = ServiceDefinition[string];
type Options = CallOptions & { readonly deadlineMs: number };

async function callUnary(client: Client, method: MethodCodec, request: object, options: Options): Promise<object> {
  const { promise, resolve, reject } = Promise.withResolvers<object>();
  const { path, requestSerialize: serialize, responseDeserialize: deserialize } = method;
  const deadline = Date.now() + options.deadlineMs;
  const call = client.makeUnaryRequest<object, object>(
    path,
    serialize,
    deserialize,
    request,
    new Metadata(),
    { deadline },
    (error, answer) => (error ? reject(error) : resolve(answer ?? {})),
  );
  return withCancel(
    options.signal,
    () => call.cancel(),
    () => promise,
  );
}

async function* callStream(
  client: Client,
  method: MethodCodec,
  request: object,
  options: Options,
): AsyncGenerator<object> {
  const { path, requestSerialize: serialize, responseDeserialize: deserialize } = method;
  const deadline = Date.now() + options.deadlineMs;
  const call = client.makeServerStreamRequest<object, object>(path, serialize, deserialize, request, { deadline });
  const cancel = (): void => call.cancel();
  options.signal?.addEventListener('abort', cancel, { once: true });
  if (options.signal?.aborted) cancel();
  try {
    for await (const message of call) yield message as object;
  } finally {
    options.signal?.removeEventListener('abort', cancel);
    call.cancel();
  }
}

async function withCancel<T>(signal: AbortSignal | undefined, cancel: () => void, work: () => Promise<T>): Promise<T> {
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await work();
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
