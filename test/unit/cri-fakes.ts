/** The real gRPC server on a socket of its own, above pods and images that live in memory. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StreamingServer } from '../../src/streaming/contracts.ts';
import { serveCri, type CriOptions } from '../../src/cri/index.ts';
import type { Image, ImagePort } from '../../src/image/contracts.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import type { Logger } from '../../src/lib/logger.ts';
import type { ContainerView, PodService, SandboxView } from '../../src/pod/contracts.ts';
import { connectCri, type CriConnection } from '../../src/lib/grpc/cri-client.ts';

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export function recordingLog(lines: LogLine[], bound: Record<string, unknown> = {}): Logger {
  const at = (level: LogLine['level']) => (fields: object, message: string) =>
    void lines.push({ level, fields: { ...bound, ...fields }, message });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => recordingLog(lines, { ...bound, ...fields }),
  };
}

export const sandboxView: SandboxView = {
  id: 'a1'.repeat(32),
  metadata: { name: 'web', namespace: 'shop', uid: 'u-1', attempt: 2 },
  state: 'ready',
  reason: '',
  createdAt: '1795257600123456789',
  labels: { app: 'web' },
  annotations: { 'example.org/note': 'ä "quoted"\nline' },
  runtimeHandler: 'caisson',
  ips: ['10.88.0.5', 'fd00::5', 'fd00::6'],
  namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD', target_id: '', userns_options: null },
  info: { pid: 4711, accelerator: 'tcg' },
};

export const containerView: ContainerView = {
  id: 'c3'.repeat(32),
  sandboxId: sandboxView.id,
  metadata: { name: 'nginx', attempt: 1 },
  state: 'exited',
  createdAt: '1795257601000000001',
  startedAt: '1795257602000000002',
  finishedAt: '1795257603000000003',
  exitCode: 137,
  reason: 'OOMKilled',
  message: 'out of memory',
  image: 'docker.io/library/nginx:1',
  imageId: `sha256:${'5'.repeat(64)}`,
  labels: { tier: 'front' },
  annotations: { hash: 'beef' },
  mounts: [
    {
      container_path: '/dev/termination-log',
      host_path: '/var/lib/kubelet/pods/u-1/log',
      readonly: false,
      selinux_relabel: true,
      propagation: 'PROPAGATION_HOST_TO_CONTAINER',
      uidMappings: [],
      gidMappings: [{ host_id: 7, container_id: 0, length: 1 }],
      recursive_read_only: false,
      image: null,
      image_sub_path: '',
    },
  ],
  logPath: '/var/log/pods/shop_web_u-1/nginx/1.log',
  resources: {
    cpu_period: '100000',
    cpu_quota: '50000',
    cpu_shares: '512',
    memory_limit_in_bytes: '9007199254740993',
    oom_score_adj: '-997',
    cpuset_cpus: '',
    cpuset_mems: '',
    hugepage_limits: [],
    unified: { 'memory.high': '1' },
    memory_swap_limit_in_bytes: '0',
  },
  user: { uid: 101, gid: 102, supplementalGroups: [103, 104] },
  stopSignal: 'SIGRTMINPLUS3',
  info: { bundle: '/run/x' },
};

export function image(user: string, changes: Partial<Image> = {}): Image {
  return {
    id: `sha256:${'5'.repeat(64)}`,
    repoTags: ['docker.io/library/nginx:1'],
    repoDigests: [`docker.io/library/nginx@sha256:${'6'.repeat(64)}`],
    sizeBytes: 5_000_000_000,
    layers: [{ diffId: `sha256:${'7'.repeat(64)}`, path: '/var/lib/caisson/secret.erofs', sizeBytes: 12 }],
    config: { user, env: ['A=b'], entrypoint: [], cmd: ['x'], workingDir: '', volumes: [], stopSignal: '', labels: {} },
    pinned: true,
    ...changes,
  };
}

function unexpected(): never {
  throw new Error('the test did not expect this call');
}

function missing(what: string, id: string): never {
  throw new CaissonError('not_found', `${what} ${JSON.stringify(id)} does not exist`, {
    hint: 'list them with crictl',
  });
}

export function fakePods(changes: Partial<PodService> = {}): PodService {
  return {
    runSandbox: unexpected,
    stopSandbox: unexpected,
    removeSandbox: unexpected,
    startSandbox: unexpected,
    pauseSandbox: unexpected,
    resumeSandbox: unexpected,
    pauseContainer: unexpected,
    unpauseContainer: unexpected,
    sandbox: (id) => (sandboxView.id.startsWith(id) ? sandboxView : missing('pod sandbox', id)),
    sandboxes: () => [sandboxView],
    createContainer: unexpected,
    startContainer: unexpected,
    stopContainer: unexpected,
    removeContainer: unexpected,
    container: (id) => (containerView.id.startsWith(id) ? containerView : missing('container', id)),
    containers: () => [containerView],
    execSync: unexpected,
    streamable: unexpected,
    forwardable: unexpected,
    execStream: unexpected,
    attach: unexpected,
    vmExec: unexpected,
    sftp: unexpected,
    portForward: unexpected,
    reopenLog: unexpected,
    updateContainerResources: unexpected,
    updateSandboxResources: unexpected,
    setPodCidr: unexpected,
    events: unexpected,
    stats: {
      container: unexpected,
      containers: unexpected,
      sandbox: unexpected,
      sandboxes: unexpected,
      detailed: unexpected,
    },
    pool: () => ({ size: 0, ready: 0, reason: '' }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
    ...changes,
  };
}

export function fakeImages(changes: Partial<ImagePort> = {}): ImagePort {
  return {
    pull: unexpected,
    load: unexpected,
    find: () => undefined,
    list: () => [],
    remove: unexpected,
    hold: unexpected,
    usage: () => Promise.resolve({ mountpoint: '/var/lib/caisson/images', usedBytes: 5_000_000_000, inodesUsed: 17 }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
    ...changes,
  };
}

/** Answers with what it was asked. */
export function fakeStreaming(changes: Partial<StreamingServer> = {}): StreamingServer {
  return {
    baseUrl: 'http://127.0.0.1:1',
    execUrl: (request) => `exec ${JSON.stringify(request)}`,
    attachUrl: (request) => `attach ${JSON.stringify(request)}`,
    portForwardUrl: (request) => `port-forward ${JSON.stringify(request)}`,
    ...changes,
  };
}

export interface TestServer extends CriConnection, AsyncDisposable {
  readonly socketPath: string;
  readonly logged: LogLine[];
}

type Changes = Partial<Omit<CriOptions, 'pods' | 'images'>> & {
  readonly pods?: Partial<PodService>;
  readonly images?: Partial<ImagePort>;
};

export async function startServer({ pods, images, ...changes }: Changes = {}): Promise<TestServer> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'caisson-cri-'));
  stack.defer(() => rm(directory, { recursive: true }));
  const socketPath = changes.socketPath ?? join(directory, 'run/caisson.sock');
  const logged: LogLine[] = [];
  const server = await serveCri({
    socketPath,
    pods: fakePods(pods),
    images: fakeImages(images),
    streaming: fakeStreaming(),
    network: () => ({ ready: true }),
    runtime: () => ({ ready: true, reason: '', message: '', info: {} }),
    version: '0.1.0',
    log: recordingLog(logged),
    shutdownGraceMs: 100,
    ...changes,
  });
  stack.use(server);
  const client = connectCri(socketPath, 10_000);
  stack.defer(() => client.close());
  const owned = stack.move();
  return { ...client, socketPath, logged, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export async function collect<Message>(stream: AsyncIterable<Message>): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}
