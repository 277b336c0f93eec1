import { match, ok, strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { networkInterfaces } from 'node:os';
import { eventually } from '../../support/steps.ts';
import type { Containers } from './containers.ts';
import type { Pod } from './pod.ts';
import { PAGE, WEB_PORT, type World } from './world.ts';

const FETCH_TIMEOUT_MS = 5000;

/** Localhost between containers, the host to the pod, the pod to its gateway, a host port to the pod. */
export async function network({ steps, crictl, daemon }: World, pod: Pod, { shell }: Containers): Promise<void> {
  await steps.check('two containers of the pod talk over localhost', async () => {
    await eventually(async () => {
      const printed = await crictl.ok('exec', '-s', shell, 'wget', '-q', '-O', '-', `http://127.0.0.1:${WEB_PORT}/`);
      strictEqual(printed.trimEnd(), PAGE.trimEnd());
    });
  });
  await steps.check('the host reaches the address of the pod', async () => {
    strictEqual(await eventually(() => fetchPage(`http://${pod.ip}:${WEB_PORT}/`)), PAGE);
  });
  await steps.check('the container has that address, on eth0', async () => {
    const printed = await crictl.ok('exec', '-s', shell, 'ip', '-o', '-4', 'address', 'show', 'dev', 'eth0');
    ok(printed.includes(` ${pod.ip}/24 `), printed);
  });
  await steps.check('the pod reaches the gateway on the host', async () => {
    const gateway = `${daemon.cni.prefix4}.1`;
    const server = createServer((_request, response) => response.end('a page from the host\n')).listen(0, gateway);
    await once(server, 'listening');
    try {
      const address = server.address();
      const port = typeof address === 'object' ? address?.port : undefined;
      const printed = await crictl.ok('exec', '-s', shell, 'wget', '-q', '-O', '-', `http://${gateway}:${port}/`);
      match(printed, /^a page from the host$/m);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
  await steps.check('a host port leads to the pod, through each address of the host', async () => {
    const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
    const others = own.filter(({ family, internal }) => family === 'IPv4' && !internal).map(({ address }) => address);
    const addresses = new Set([...others, `${daemon.cni.prefix4}.1`]);
    for (const address of addresses) {
      strictEqual(await fetchPage(`http://${address}:${pod.hostPort}/`), PAGE, `through ${address}`);
    }
  });
}

async function fetchPage(url: string): Promise<string> {
  // a new connection each time: the old one may be of a pod that is gone
  const response = await fetch(url, {
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
    headers: { connection: 'close' },
  });
  return response.text();
}
