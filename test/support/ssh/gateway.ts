/** The gateway over fake pods, and clients of it. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import type { Client, ConnectConfig } from 'ssh2';
import { newKey } from '../../../src/ssh/new-key.ts';
import { openSsh, type SshGateway, type SshLimits, type SshPods } from '../../../src/ssh/index.ts';
import type { ContainerView, SandboxView, StreamService } from '../../../src/pod/contracts.ts';
import { removeTree } from '../../../src/lib/files.ts';
import type { Logger } from '../../../src/lib/logger.ts';
import { temporaryDirectory } from '../temporary.ts';
import { memoryLogger, type LogLine } from '../streaming/server.ts';

export interface FakePod {
  readonly name: string;
  readonly namespace?: string;
  readonly id: string;
  readonly state?: SandboxView['state'];
  readonly ips?: readonly string[];
  /** name to id; those that run */
  readonly containers: Readonly<Record<string, string>>;
}

/** As PodService lists them. */
export function fakeLists(pods: readonly FakePod[]) {
  return {
    sandboxes: ({ state }: { readonly state?: SandboxView['state'] }) =>
      pods
        .filter((pod) => state === undefined || (pod.state ?? 'ready') === state)
        .map(
          ({ name, namespace = 'default', id, ips = [] }) =>
            ({ id, ips, metadata: { name, namespace, uid: id, attempt: 0 } }) as unknown as SandboxView,
        ),
    containers: () =>
      pods.flatMap((pod) =>
        Object.entries(pod.containers).map(
          ([name, id]) => ({ id, sandboxId: pod.id, metadata: { name, attempt: 0 } }) as unknown as ContainerView,
        ),
      ),
  };
}

export const WEB: FakePod = { name: 'web', id: 'aa11'.repeat(16), ips: ['10.0.0.7'], containers: { app: 'box' } };

export interface TestKey {
  readonly privateKey: string;
  /** `ssh-ed25519 AAAA` */
  readonly publicKey: string;
}

export function makeKey(): TestKey {
  const { privateKey, publicKey } = newKey('');
  return { privateKey, publicKey: publicKey.trim().split(' ').slice(0, 2).join(' ') };
}

export interface TestGateway extends AsyncDisposable {
  readonly gateway: SshGateway;
  readonly socketPath: string;
  readonly keyFile: string;
  readonly directory: string;
  readonly key: TestKey;
  readonly log: readonly LogLine[];
  /** resolves when a line with this message has been logged; also one that was */
  logged(message: string): Promise<LogLine>;
  client(options?: ConnectConfig): Promise<Client>;
}

export interface GatewayOptions {
  /** with lists of pods of its own, these count */
  readonly streams: StreamService & Partial<Pick<SshPods, 'sandboxes' | 'containers'>>;
  readonly pods?: readonly FakePod[];
  readonly limits?: Partial<SshLimits>;
  readonly vmAccess?: boolean;
  /** in front of the key, such as `no-pty ` */
  readonly keyOptions?: string;
  readonly log?: Logger;
}

const LIMITS: SshLimits = {
  connections: 32,
  channels: 64,
  channelsPerConnection: 8,
  authTries: 3,
  loginGraceMs: 10_000,
};

export async function startGateway(options: GatewayOptions): Promise<TestGateway> {
  await using stack = new AsyncDisposableStack();
  const directory = await temporaryDirectory();
  stack.defer(() => removeTree(directory));
  const key = makeKey();
  const keyFile = join(directory, 'authorized_keys');
  const { keyOptions = '' } = options;
  await writeFile(keyFile, `${keyOptions}${key.publicKey} somebody\n`, { mode: 0o600 });
  const lines: LogLine[] = [];
  const waiting = new Set<() => void>();
  const log = options.log ?? memoryLogger(lines, () => waiting.forEach((wake) => wake()));
  const socketPath = join(directory, 's');
  const gateway = stack.use(
    await openSsh({
      socketPath,
      tcp: { address: '127.0.0.1', port: 0 },
      keyDirectory: join(directory, 'ssh'),
      authorizedKeys: keyFile,
      acceptEnv: ['LANG', 'LC_*'],
      vmAccess: options.vmAccess ?? false,
      limits: { ...LIMITS, ...options.limits },
      pods: { ...fakeLists(options.pods ?? [WEB]), ...options.streams },
      log,
    }),
  );
  const release = stack.move();
  return {
    gateway,
    socketPath,
    keyFile,
    directory,
    key,
    log: lines,
    logged: async (message) => {
      for (;;) {
        const line = lines.find((candidate) => candidate.message === message);
        if (line) return line;
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
    },
    client: (config = {}) => login({ port: gateway.port ?? 0, privateKey: key.privateKey, ...config }),
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}

/** Rejects when it is not let in. */
export async function login(config: ConnectConfig): Promise<Client> {
  const client = startLogin(config);
  // a connection that is broken off later is part of many tests
  const failed = once(client, 'error').then(([error]) => {
    throw error;
  });
  failed.catch(() => undefined);
  const closed = once(client, 'close').then(() => {
    throw new Error('the server has closed the connection');
  });
  closed.catch(() => undefined);
  await Promise.race([once(client, 'ready'), failed, closed]);
  return client;
}

/** Returns at once; errors are nobody's concern. */
export function startLogin(config: ConnectConfig): Client {
  const client = new ssh2.Client();
  client.on('error', () => undefined);
  const { port = 0, ...rest } = config;
  // as OpenSSH does; ssh2 itself leaves it on
  const sock = config.sock ?? connect({ host: '127.0.0.1', port, noDelay: true });
  client.connect({ username: 'app.web.default', ...rest, sock });
  return client;
}

export interface CommandAnswer {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
  readonly signal: string | undefined;
}

export async function run(client: Client, command: string, input: string | Buffer = ''): Promise<CommandAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandAnswer>();
  client.exec(command, (error, channel) => {
    if (error) return reject(error);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let end: Pick<CommandAnswer, 'code' | 'signal'> = { code: null, signal: undefined };
    channel.on('data', (chunk: Buffer) => stdout.push(chunk));
    channel.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    channel.on('exit', (code: number | null, signal?: string) => (end = { code, signal }));
    channel.on('close', () =>
      resolve({ stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString(), ...end }),
    );
    channel.end(input);
  });
  return promise;
}

/** What the other end of a raw connection says until it ends. */
export async function rawConnection(path: string, say: string): Promise<string> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  socket.write(say);
  let heard = '';
  for await (const chunk of socket as AsyncIterable<Buffer>) heard += chunk.toString('latin1');
  return heard;
}
