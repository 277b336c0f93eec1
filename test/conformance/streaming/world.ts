import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { busyboxImage } from '../../../images/busybox.ts';
import { sshToolsImage } from '../../../images/ssh-tools.ts';
import { startTestDaemon, type TestDaemon } from '../../support/daemon.ts';
import { BUSYBOX, createAndStart, runPod, type TestPod } from '../../support/pods.ts';
import type { Steps } from '../../support/steps.ts';
import { CRICTL, type Crictl } from '../crictl/run.ts';

const CACHE = join(import.meta.dirname, '../../../.cache');
export const STREAMS = join(CACHE, 'bin/streams');
const TOOLS = 'caisson.test/tools:latest';

export const TRANSPORTS = ['spdy', 'websocket'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** `ms` that a client may take; without KVM everything in a guest is slow */
const CLIENT_TIMEOUT_MS = 120_000;

/** Ports inside the pod. */
export const PORTS = { page: 8080, count: 8081, deaf: 8082 } as const;
export const PAGE = 'a page from inside a VM\n';

/** httpd with one page, and a server that answers what it got with its length, once all of it has come. */
const SERVE = `
mkdir -p /tmp/www && echo '${PAGE.trim()}' >/tmp/www/index.html
httpd -p ${PORTS.page} -h /tmp/www
while :; do nc -l -p ${PORTS.count} -e sh -c 'echo "$(wc -c) bytes"'; done`;

/** Everything the steps work with. */
export interface World {
  readonly steps: Steps;
  readonly crictl: Crictl;
  readonly daemon: TestDaemon;
  readonly pod: TestPod;
  /** id of a container that waits for execs, and serves PORTS */
  readonly box: string;
}

export async function startPod(lab: AsyncDisposableStack) {
  const images = [await busyboxImage(BUSYBOX), await sshToolsImage(TOOLS, CACHE)];
  const config = { ssh: { enabled: true } };
  const daemon = lab.use(await startTestDaemon({ ownSession: true, images, config }));
  const pod = await runPod(daemon, 'streams');
  const box = await createAndStart(pod, 'box', ['sh', '-c', SERVE]);
  await createAndStart(pod, 'tools', ['sleep', '100000'], { image: { image: TOOLS } });
  return { daemon, pod, box };
}

export interface ExecOptions {
  readonly stdin?: boolean;
  readonly tty?: boolean;
}

/** What CRI's Exec answers. */
export async function execUrl({ daemon, box }: World, command: string[], options: ExecOptions = {}): Promise<string> {
  const { stdin = false, tty = false } = options;
  const { url } = await daemon.cri.runtime.Exec({
    container_id: box,
    cmd: command,
    stdin,
    tty,
    stdout: true,
    stderr: !tty,
  });
  return url;
}

export interface ClientAnswer {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly code: number | null;
}

export type Client = ChildProcessWithoutNullStreams;

/** Starts test/conformance/streams. */
export const startClient = (args: readonly string[]): Client => startProgram(STREAMS, args);

/** crictl, when it is talked with; else there is `Crictl`. */
export const startCrictl = ({ daemon }: World, args: readonly string[]): Client =>
  startProgram(CRICTL, ['--config', join(daemon.dir, 'crictl.yaml'), ...args]);

function startProgram(program: string, args: readonly string[]): Client {
  const client = spawn(program, args, { timeout: CLIENT_TIMEOUT_MS, killSignal: 'SIGKILL' });
  // it may end before it has read all
  client.stdin.on('error', () => undefined);
  return client;
}

export async function runClient(args: readonly string[], input: string | Buffer = ''): Promise<ClientAnswer> {
  const client = startClient(args);
  client.stdin.end(input);
  return answerOf(client);
}

export async function answerOf(client: Client): Promise<ClientAnswer> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  client.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  client.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const [code] = (await once(client, 'close')) as [number | null];
  return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString(), code };
}

/** One command through client-go: its own transport's newest protocol unless named. */
export async function exec(
  world: World,
  transport: Transport,
  command: string[],
  {
    input,
    protocols,
    ...options
  }: ExecOptions & { readonly input?: string | Buffer; readonly protocols?: string } = {},
): Promise<ClientAnswer> {
  const url = await execUrl(world, command, { ...options, stdin: input !== undefined });
  const flags = [
    '-transport',
    transport,
    ...(protocols === undefined ? [] : ['-protocols', protocols]),
    ...(input === undefined ? [] : ['-stdin']),
    ...(options.tty === true ? ['-tty'] : []),
  ];
  return runClient(['run', ...flags, url], input);
}

/** Runs while `body` does; it gets the local ports, in the order of `ports`. */
export async function forwarding(
  { daemon, pod }: World,
  transport: Transport,
  ports: readonly number[],
  body: (local: readonly number[], client: Client) => Promise<void>,
): Promise<void> {
  const { url } = await daemon.cri.runtime.PortForward({ pod_sandbox_id: pod.id, port: [] });
  const client = startClient(['forward', '-transport', transport, url, ...ports.map(String)]);
  const ended = once(client, 'close');
  try {
    const [lines] = await printed(client.stdout, new RegExp(`^(\\d+ \\d+\n){${ports.length}}`));
    const local = lines
      .trim()
      .split('\n')
      .map((line) => Number(line.split(' ')[0]));
    await body(local, client);
  } finally {
    client.stdin.end();
    client.kill();
    await ended;
  }
}

/** Reads on after it has found the pattern: a program whose output nobody takes ends. */
export async function printed(output: Readable, pattern: RegExp): Promise<RegExpExecArray> {
  const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
  let text = '';
  output.on('data', (chunk: Buffer) => {
    text += String(chunk);
    const match = pattern.exec(text);
    if (match) resolve(match);
  });
  output.on('end', () => reject(new Error(`ended after ${JSON.stringify(text)}`)));
  return promise;
}
