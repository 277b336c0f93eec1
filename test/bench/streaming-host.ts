/**
 * What the streaming server alone carries: a process of this machine stands in the place of the agent, client-go is the
 * client. `bin/setup streaming && bin/node test/bench/streaming-host.ts`. The median of five, and what the server's own
 * processor time would carry, which a busy machine changes less.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { startServer } from '../support/streaming/server.ts';

const STREAMS = join(import.meta.dirname, '../../.cache/bin/streams');
const MIB = 512;
const BYTES = String(MIB * 1024 * 1024);
const ROUNDS = 5;

await using server = await startServer();
for (const transport of ['spdy', 'websocket']) {
  await measure(`exec stdout, ${transport}`, () => {
    const url = server.exec(['head', '-c', BYTES, '/dev/zero'], { stdin: false });
    return shell(`"$0" run -transport ${transport} "$1" >/dev/null`, url);
  });
  await measure(`exec stdin, ${transport}`, () => {
    const url = server.exec(['sh', '-c', 'exec cat >/dev/null']);
    return shell(`head -c ${BYTES} /dev/zero | "$0" run -transport ${transport} -stdin "$1"`, url);
  });
}

async function measure(what: string, carry: () => Promise<void>): Promise<void> {
  const rates: number[] = [];
  const cpu = process.cpuUsage();
  for (let i = 0; i < ROUNDS; i++) {
    const started = performance.now();
    await carry();
    rates.push(MIB / ((performance.now() - started) / 1000));
  }
  const { user, system } = process.cpuUsage(cpu);
  const median = rates.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
  const perCpu = (MIB * ROUNDS) / ((user + system) / 1e6);
  console.log(
    `${what}: ${Math.round(median)} MiB/s; ${Math.round(perCpu)} MiB per second of the server's processor time`,
  );
}

async function shell(script: string, url: string): Promise<void> {
  const child = spawn('sh', ['-c', script, STREAMS, url], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`the client ended with code ${code}`);
}
