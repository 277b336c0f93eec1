import { deepStrictEqual, match, ok, strictEqual } from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { askTcp } from '../../support/streaming/tcp.ts';
import { eventually } from '../../support/steps.ts';
import { CRICTL } from '../crictl/run.ts';
import { forwarding, printed, PAGE, PORTS, type Transport, type World } from './world.ts';

const MIB = 1024 * 1024;

export async function portForward(world: World, transport: Transport): Promise<void> {
  const { steps } = world;
  await steps.check('a page, and another one at the same time', async () => {
    await forwarding(world, transport, [PORTS.page], async ([port = 0]) => {
      deepStrictEqual(await Promise.all([getPage(port), getPage(port)]), [PAGE, PAGE]);
    });
  });
  await steps.check('a client that ends its side first, and then reads the answer', async () => {
    await forwarding(world, transport, [PORTS.count, PORTS.page], async ([count = 0, page = 0]) => {
      strictEqual(await eventually(() => counted(count, Buffer.alloc(MIB + 1))), `${MIB + 1} bytes\n`);
      strictEqual(await getPage(page), PAGE);
    });
  });
  await steps.check('a port that nobody listens on', async () => {
    await forwarding(world, transport, [PORTS.deaf], async ([port = 0], client) => {
      let said = '';
      client.stderr.on('data', (chunk: Buffer) => (said += String(chunk)));
      const ended = once(client, 'close');
      // reset or ended without an answer
      strictEqual(await askTcp(port, 'anybody?').catch(() => ''), '');
      await ended;
      match(said, new RegExp(`error forwarding port ${PORTS.deaf} to pod`));
    });
  });
  await steps.check('crictl port-forward', () => byCrictl(world, transport));
}

/** nc serves one connection at a time: the next one may come too early. */
async function counted(port: number, bytes: Buffer): Promise<string> {
  const answer = await askTcp(port, bytes);
  ok(answer !== '', 'no answer');
  return answer;
}

async function getPage(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
  return response.text();
}

async function byCrictl({ daemon, pod }: World, transport: Transport): Promise<void> {
  const args = ['--config', join(daemon.dir, 'crictl.yaml'), 'port-forward', '-r', transport, pod.id, `:${PORTS.page}`];
  const crictl = spawn(CRICTL, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(crictl, 'close');
  try {
    const [, port] = await printed(crictl.stdout, /Forwarding from 127\.0\.0\.1:(\d+) ->/);
    strictEqual(await getPage(Number(port)), PAGE);
  } finally {
    crictl.kill();
    await ended;
  }
}
