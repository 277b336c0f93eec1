import { match, ok, strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { countFds, processesOf } from '../../support/resources.ts';
import { eventually } from '../../support/steps.ts';
import { startSsh, type SshWorld } from './ssh.ts';
import { answerOf, execUrl, startClient, TRANSPORTS, type World } from './world.ts';

export async function nothingIsHeld({ steps, daemon }: World, fdsBefore: number): Promise<void> {
  await steps.check('the daemon holds no more files than before', async () => {
    await eventually(async () => {
      const fds = await countFds(daemon);
      ok(fds <= fdsBefore + 3, `${fdsBefore} before, ${fds} after`);
    });
  });
}

/** Last: the pod is over then. */
export async function vmDies(
  world: World,
  { kubernetes, ssh }: { readonly kubernetes: boolean; readonly ssh: SshWorld | undefined },
): Promise<void> {
  const { steps, daemon } = world;
  await steps.check('clients are told of a VM that dies in the middle of their streams', async () => {
    const script = 'echo ready; exec sleep 98765';
    const clients = ssh ? [{ client: startSsh(ssh, ['box.streams.default.caisson', script]), wanted: 255 }] : [];
    for (const transport of kubernetes ? TRANSPORTS : []) {
      const url = await execUrl(world, ['sh', '-c', script]);
      clients.push({ client: startClient(['run', '-transport', transport, url]), wanted: 125 });
    }
    const answers = clients.map(({ client }) => answerOf(client));
    await Promise.all(clients.map(({ client }) => once(client.stdout, 'data')));
    const qemu = (await processesOf(daemon)).filter(({ name }) => name.startsWith('qemu-system'));
    strictEqual(qemu.length, 1);
    for (const { pid } of qemu) process.kill(pid, 'SIGKILL');
    for (const [i, { stdout, stderr, code }] of (await Promise.all(answers)).entries()) {
      strictEqual(stdout.toString(), 'ready\n');
      strictEqual(code, clients[i]?.wanted);
      match(stderr, /VM|agent/);
    }
  });
}
