import { match, rejects, strictEqual } from 'node:assert/strict';
import { once } from 'node:events';
import { createAndStart, waitForState } from '../../support/pods.ts';
import { answerOf, startClient, startCrictl, type Client, type Transport, type World } from './world.ts';

const ECHO = ['sh', '-c', 'while read line; do echo "got $line"; done; echo end; exit 3'];

export async function attach(world: World, transport: Transport): Promise<void> {
  const { steps, daemon, pod } = world;
  const url = async (container_id: string, tty = false, stdin = true): Promise<string> => {
    const streams = { stdin, stdout: true, stderr: !tty, tty };
    return (await daemon.cri.runtime.Attach({ container_id, ...streams })).url;
  };
  const remove = (container_id: string) => daemon.cri.runtime.RemoveContainer({ container_id });
  const open = async (id: string, ...flags: string[]): Promise<Client> => {
    const tty = flags.includes('-tty');
    return startClient(['run', '-transport', transport, '-stdin', ...flags, await url(id, tty)]);
  };

  await steps.check('two clients of one container, which ends with its input', async () => {
    const id = await createAndStart(pod, `once-${transport}`, ECHO, { stdin: true, stdin_once: true });
    const first = await open(id);
    // one that only listens: the container's input ends with the first client that had it
    const second = startClient(['run', '-transport', transport, await url(id, false, false)]);
    const answers = [answerOf(first), answerOf(second)];
    // who is attached shows in what comes of what is typed
    await heard([first, second], () => first.stdin.write('one\n'));
    second.kill('SIGKILL');
    await once(second, 'close');
    strictEqual((await waitForState(daemon, id, 'CONTAINER_RUNNING')).state, 'CONTAINER_RUNNING');
    first.stdin.end('two\n');
    const [answer] = await Promise.all(answers);
    match(String(answer?.stdout), /(got one\n)+got two\nend\n$/);
    strictEqual(answer?.code, 0);
    strictEqual((await waitForState(daemon, id, 'CONTAINER_EXITED')).exit_code, 3);
    await rejects(url(id), { code: 9 });
    await remove(id);
  });
  await steps.check('a client leaves a container whose input stays open', async () => {
    const id = await createAndStart(pod, `open-${transport}`, ECHO, { stdin: true });
    const first = await open(id);
    await heard([first], () => first.stdin.write('one\n'));
    first.kill('SIGKILL');
    await once(first, 'close');
    const second = await open(id);
    await heard([second], () => second.stdin.write('again\n'));
    strictEqual((await waitForState(daemon, id, 'CONTAINER_RUNNING')).state, 'CONTAINER_RUNNING');
    const answer = answerOf(second);
    await daemon.cri.runtime.StopContainer({ container_id: id, timeout: '0' });
    strictEqual((await answer).code, 0);
    await remove(id);
  });
  await steps.check('crictl attach', async () => {
    const id = await createAndStart(pod, `crictl-${transport}`, ECHO, { stdin: true, stdin_once: true });
    const client = startCrictl(world, ['attach', '-i', '-r', transport, id]);
    const answer = answerOf(client);
    await heard([client], () => client.stdin.write('one\n'));
    client.stdin.end('two\n');
    const { stdout, stderr, code } = await answer;
    match(stdout.toString(), /(got one\n)+got two\nend\n$/);
    strictEqual(code, 0, stderr);
    strictEqual((await waitForState(daemon, id, 'CONTAINER_EXITED')).exit_code, 3);
    await remove(id);
  });
  await steps.check('a terminal', async () => {
    const overrides = { stdin: true, stdin_once: true, tty: true };
    const id = await createAndStart(pod, `tty-${transport}`, ['sh'], overrides);
    const client = await open(id, '-tty', '-sizes', '132x43');
    const answer = answerOf(client);
    await heard([client], () => client.stdin.write('stty size\r'), /43 132/);
    client.stdin.write('exit 4\r');
    strictEqual((await answer).code, 0);
    strictEqual((await waitForState(daemon, id, 'CONTAINER_EXITED')).exit_code, 4);
    await remove(id);
  });
}

/** Types until all clients have heard of it: nothing is replayed to one that was not attached yet. */
async function heard(clients: readonly Client[], type: () => void, what = /got /): Promise<void> {
  const texts = clients.map(() => '');
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const cleanUp: (() => void)[] = [];
  for (const [i, client] of clients.entries()) {
    const onData = (chunk: Buffer): void => {
      texts[i] += String(chunk);
      if (texts.every((text) => what.test(text))) resolve();
    };
    const onClose = (): void => reject(new Error(`a client ended: ${texts.join(' | ')}`));
    client.stdout.on('data', onData);
    client.on('close', onClose);
    cleanUp.push(() => client.stdout.off('data', onData).off('close', onClose));
    cleanUp.push(() => client.off('close', onClose));
  }
  type();
  const again = setInterval(type, 1000);
  const late = setTimeout(() => reject(new Error(`not heard: ${texts.join(' | ')}`)), 30_000);
  try {
    await promise;
  } finally {
    clearInterval(again);
    clearTimeout(late);
    for (const undo of cleanUp) undo();
  }
}
