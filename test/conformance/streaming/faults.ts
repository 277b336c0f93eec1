import { match, ok, strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { countFds, processesOf } from '../../support/resources.ts';
import { eventually } from '../../support/steps.ts';
import { answerOf, execUrl, startClient, TRANSPORTS, type ClientAnswer, type World } from './world.ts';

export async function nothingIsHeld({ steps, daemon }: World, fdsBefore: number): Promise<void> {
  await steps.check('the daemon holds no more files than before', async () => {
    await eventually(async () => {
      const fds = await countFds(daemon);
      ok(fds <= fdsBefore + 3, `${fdsBefore} before, ${fds} after`);
    });
  });
}

/** Last: the pod is over then. */
export async function vmDies(world: World): Promise<void> {
  const { steps, daemon } = world;
  await steps.check('clients are told of a VM that dies in the middle of their streams', async () => {
    const answers: Promise<ClientAnswer>[] = [];
    for (const transport of TRANSPORTS) {
      const url = await execUrl(world, ['sh', '-c', 'echo ready; exec sleep 98765']);
      const client = startClient(['run', '-transport', transport, url]);
      answers.push(answerOf(client));
      await once(client.stdout, 'data');
    }
    const qemu = (await processesOf(daemon)).filter(({ name }) => name.startsWith('qemu-system'));
    strictEqual(qemu.length, 1);
    for (const { pid } of qemu) process.kill(pid, 'SIGKILL');
    for (const { stdout, stderr, code } of await Promise.all(answers)) {
      strictEqual(stdout.toString(), 'ready\n');
      strictEqual(code, 125);
      match(stderr, /VM|agent/);
    }
  });
}
