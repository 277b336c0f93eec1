/**
 * What the streaming server alone carries: a process of this machine stands in the place of the agent, client-go is the
 * client. By itself: `bin/setup streaming && bin/node test/bench/streaming-host.ts`. The median of several rounds, and what
 * the server's own processor time would carry, which a busy machine changes less.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startGateway } from '../support/ssh/gateway.ts';
import { fakeStreams } from '../support/streaming/fake-streams.ts';
import { countingLogger, startServer } from '../support/streaming/server.ts';
import { median } from './statistics.ts';
import { drain, drainSsh, feed, type Transport } from './stream-clients.ts';

export interface HostSide {
  /** MiB/s */
  readonly rate: number;
  /** MiB for each second of the server's processor time */
  readonly perCpuSecond: number;
}

export interface HostSideFigures {
  readonly stdout: Readonly<Record<Transport, HostSide>>;
  readonly stdin: Readonly<Record<Transport, HostSide>>;
  /** stdout through the ssh gateway */
  readonly ssh: HostSide;
}

const MIB = 1024 * 1024;

export async function measureHostSide(
  { mib, rounds }: { readonly mib: number; readonly rounds: number },
  signal: AbortSignal,
): Promise<HostSideFigures> {
  await using server = await startServer();
  const stdout = (transport: Transport) => (): Promise<void> =>
    drain(transport, server.exec(['head', '-c', String(mib * MIB), '/dev/zero'], { stdin: false }), signal);
  const stdin = (transport: Transport) => (): Promise<void> =>
    feed(transport, server.exec(['sh', '-c', 'exec cat >/dev/null']), mib * MIB, signal);
  const measured = (carry: () => Promise<void>): Promise<HostSide> => measure(carry, mib, rounds);
  return {
    stdout: { spdy: await measured(stdout('spdy')), websocket: await measured(stdout('websocket')) },
    stdin: { spdy: await measured(stdin('spdy')), websocket: await measured(stdin('websocket')) },
    ssh: await measureSsh({ mib, rounds }, signal),
  };
}

async function measureSsh(
  { mib, rounds }: { readonly mib: number; readonly rounds: number },
  signal: AbortSignal,
): Promise<HostSide> {
  using streams = fakeStreams();
  await using door = await startGateway({ streams, log: countingLogger().log });
  const config = join(door.directory, 'config');
  const key = join(door.directory, 'key');
  await writeFile(key, door.key.privateKey, { mode: 0o600 });
  const lines = ['HostName 127.0.0.1', `Port ${door.gateway.port}`, `IdentityFile ${key}`, 'User app.web.default'];
  const trust = ['StrictHostKeyChecking no', 'UserKnownHostsFile /dev/null'];
  await writeFile(config, `Host door\n${[...lines, ...trust].join('\n')}\n`);
  return await measure(() => drainSsh({ config, host: 'door' }, `head -c ${mib * MIB} /dev/zero`, signal), mib, rounds);
}

async function measure(carry: () => Promise<void>, mib: number, rounds: number): Promise<HostSide> {
  const rates: number[] = [];
  const cpu = process.cpuUsage();
  for (let i = 0; i < rounds; i++) {
    const started = performance.now();
    await carry();
    rates.push(mib / ((performance.now() - started) / 1000));
  }
  const { user, system } = process.cpuUsage(cpu);
  return { rate: median(rates), perCpuSecond: (mib * rounds) / ((user + system) / 1e6) };
}

if (import.meta.main) {
  const { stdout, stdin, ssh } = await measureHostSide({ mib: 512, rounds: 5 }, new AbortController().signal);
  const of = (stream: string, { spdy, websocket }: Readonly<Record<Transport, HostSide>>) => ({
    [`exec ${stream}, spdy`]: spdy,
    [`exec ${stream}, websocket`]: websocket,
  });
  const figures = { ...of('stdout', stdout), ...of('stdin', stdin), 'stdout, ssh': ssh };
  for (const [what, { rate, perCpuSecond }] of Object.entries(figures))
    console.log(
      `${what}: ${Math.round(rate)} MiB/s; ${Math.round(perCpuSecond)} MiB per second of the server's processor time`,
    );
}
