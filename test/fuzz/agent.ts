import { ok } from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { constants, createServer, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { MethodDefinition } from '@grpc/proto-loader';
import type { ProtoGrpcType } from '../../proto/generated/agent/agent.ts';
import { connectAgent } from '../../src/agent/index.ts';
import type { AgentClient } from '../../src/agent/contracts.ts';
import { isCaissonError } from '../../src/lib/errors.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { Random } from './random.ts';
import type { FuzzTarget } from './target.ts';

type AnyMethod = MethodDefinition<object, object>;
const { Agent } = loadProto<ProtoGrpcType>('agent/v1/agent.proto').caisson.agent.v1;
const methods: Readonly<Record<string, AnyMethod>> = Agent.service as unknown as Record<string, AnyMethod>;

/** The daemon's client of the agent talks to one that a hostile guest has put in its place. */
export async function openAgentTarget(): Promise<FuzzTarget> {
  const home = await mkdtemp(join(tmpdir(), 'caisson-fuzz-agent-'));
  const path = join(home, 'agent.sock');
  const connections = new Set<Socket>();
  let random: Random | undefined;
  const server = createServer().on('session', (session) => session.on('error', () => undefined));
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.on('error', () => undefined).once('close', () => connections.delete(socket));
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined).resume();
    if (random) answer(stream, String(headers[constants.HTTP2_HEADER_PATH]), random);
  });
  server.listen(path);
  await once(server, 'listening');
  let [answered, refused] = [0, 0];
  return {
    run: async (ofCase) => {
      random = ofCase;
      using client = connectAgent(path);
      const calls = Array.from({ length: 1 + ofCase.below(4) }, () => ask(client, ofCase));
      // a guest may never answer: what still waits then ends with the client
      const patience = setTimeout(() => client[Symbol.dispose](), 20 + ofCase.below(80));
      for (const { status, reason } of await Promise.allSettled(calls).then(outcomes)) {
        if (status === 'fulfilled') answered++;
        else refused++;
        ok(status === 'fulfilled' || isCaissonError(reason), reason);
      }
      clearTimeout(patience);
      for (const connection of connections) connection.destroy();
    },
    summary: () => `${answered} calls believed what they were told, ${refused} did not`,
    [Symbol.asyncDispose]: async () => {
      for (const connection of connections) connection.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(home, { recursive: true });
    },
  };
}

const outcomes = (settled: readonly PromiseSettledResult<void>[]) =>
  settled.map((one) => ({ status: one.status, reason: one.status === 'rejected' ? (one.reason as Error) : undefined }));

const NEVER = new AbortController().signal;
const STREAMS = { stdin: true, stdout: true, stderr: true };
const EXEC = { containerId: 'c', command: ['true'], env: {}, tty: false, size: undefined, ...STREAMS };

const CALLS: readonly ((client: AgentClient) => Promise<unknown>)[] = [
  (client) => client.info(NEVER),
  (client) => client.stats(true, NEVER),
  (client) => client.startContainer('c', NEVER),
  (client) => client.waitContainer('c'),
  (client) => client.signalContainer('c', 9, true),
  (client) => client.adjustClock(1, { slowly: true }, NEVER),
  (client) => client.execSync('c', ['true'], 1000, 4096, NEVER),
  (client) => client.output('c', async ({ endOffset }) => endOffset),
  async (client) => {
    await using session = await client.exec(EXEC, NEVER);
    const exited = session.exited;
    session.stdin?.on('error', () => undefined).write('abc');
    await Promise.all([exited, drained(session.stdout), drained(session.stderr)]);
  },
  async (client) => {
    const port = await client.portForward(80, NEVER);
    port.end('abc');
    await drained(port);
  },
];

const ask = async (client: AgentClient, random: Random): Promise<void> => void (await random.pick(CALLS)(client));

async function drained(stream: Readable | undefined): Promise<void> {
  if (!stream) return;
  stream.on('error', () => undefined).resume();
  if (!stream.closed) await new Promise<void>((resolve) => stream.once('close', () => resolve()));
}

/** Messages as they should be, damaged ones, and what is no gRPC at all; then an end without a status, or silence; or a status alone. */
function answer(stream: ServerHttp2Stream, path: string, random: Random): void {
  const method = methods[path.split('/').at(-1) ?? ''];
  if (!method || random.once(20)) return stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  const type = random.once(20) ? 'text/html' : 'application/grpc+proto';
  const status = random.once(2) ? '0' : random.pick(['5', '13', '14', '99', 'x', '-1']);
  const headers = { ':status': random.once(20) ? 503 : 200, 'content-type': type };
  if (random.once(4)) return stream.respond({ ...headers, 'grpc-status': status }, { endStream: true });
  const frames = Array.from({ length: method.responseStream || random.once(4) ? random.below(6) : 1 }, () =>
    frame(message(method, random), random),
  );
  const ending = random.once(8) ? random.pick(['none', 'reset'] as const) : 'end';
  // Node's server spins over such a stream when it is reset
  const waitForTrailers = ending === 'end' && !random.once(8);
  stream.respond(headers, { waitForTrailers });
  if (waitForTrailers) stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
  for (const piece of random.pieces(Buffer.concat(frames))) stream.write(piece);
  if (ending === 'end') stream.end();
  if (ending === 'reset') stream.close(random.below(14));
}

function frame(body: Buffer, random: Random): Buffer {
  const header = Buffer.alloc(5);
  header[0] = random.once(20) ? random.below(256) : 0;
  header.writeUInt32BE(random.once(20) ? random.pick([0, 1, 2 ** 22, 2 ** 32 - 1]) : body.length, 1);
  return Buffer.concat([header, body]);
}

function message(method: AnyMethod, random: Random): Buffer {
  if (random.once(6)) return random.bytes(random.length());
  const whole = method.responseSerialize(random.pick(MESSAGES)(random));
  return random.once(3) ? random.damaged(whole) : whole;
}

const number = (random: Random): number => random.pick([0, 1, -1, 255, 2 ** 31 - 1, -(2 ** 31)]);
const long = (random: Random): string => random.pick(['0', '1', '-1', '9223372036854775807', '-9223372036854775808']);

/** Fields that a method does not have are left out when it is written. */
const MESSAGES: readonly ((random: Random) => object)[] = [
  () => ({ started: {} }),
  (random) => ({ stdout: random.bytes(random.length()) }),
  (random) => ({ stderr: random.bytes(random.length()) }),
  (random) => ({ end: random.pick(['STDOUT', 'STDERR', 7]) }),
  (random) => ({ credit: random.below(2 ** 32) }),
  (random) => ({ exit: { code: number(random), finished_at_ns: long(random), signal: number(random) } }),
  (random) => ({
    stream: 'STDERR',
    data: random.bytes(random.length()),
    end_offset: long(random),
    time_ns: long(random),
  }),
  (random) => ({
    agent_version: 'x'.repeat(random.length()),
    time_ns: long(random),
    containers: [{ id: '', exit: {} }],
  }),
  (random) => ({ time_ns: long(random), ignored: true, pid: number(random) }),
  (random) => ({ containers: [{ id: 'c', cpu_usage_ns: long(random), memory_bytes: long(random) }] }),
];
