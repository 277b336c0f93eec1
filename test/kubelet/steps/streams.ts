import { deepStrictEqual, match, ok, strictEqual } from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../src/lib/exec.ts';
import { eventually } from '../../support/steps.ts';
import { printed } from '../../conformance/streaming/world.ts';
import { BUSYBOX, container, inPod, NODE, pod, waitReady, withPod, type World, SLOW_MS } from '../world.ts';
import { FIRST, PAGE } from './first-pod.ts';

export async function streams(world: World): Promise<void> {
  const { steps, kubectl, daemon } = world;
  await logs(world);
  await steps.check('exec: output, errors and exit code', async () => {
    const answer = await kubectl.run([
      'exec',
      FIRST,
      '-c',
      'second',
      '--',
      'sh',
      '-c',
      'echo out; echo err >&2; exit 7',
    ]);
    strictEqual(answer.stdout, 'out\n');
    match(answer.stderr, /^err\n/);
    strictEqual(answer.exitCode, 7);
  });
  await steps.check('exec -i: a megabyte in and out', async () => {
    const text = randomBytes(512 * 1024).toString('hex');
    strictEqual(await kubectl.okWithInput(text, 'exec', '-i', FIRST, '--', 'cat'), text);
  });
  await steps.check('exec -it in a terminal', async () => {
    const command = kubectl.command(
      'exec',
      '-it',
      FIRST,
      '--',
      'sh',
      '-c',
      'tty; stty size; read x; echo "got $x"; exit 3',
    );
    const line = `stty rows 40 cols 100; exec ${command.map((word) => `'${word}'`).join(' ')}`;
    const options = { input: 'typed\n', okCodes: [0, 3], timeoutMs: SLOW_MS };
    const answer = await run('script', ['-qec', line, '/dev/null'], options);
    match(answer.stdout, /\/dev\/(pts\/\d|console)\r\n40 100\r\n/);
    match(answer.stdout, /got typed\r\n/);
    strictEqual(answer.exitCode, 3);
  });
  await steps.check('exec of a command that is missing says so', async () => {
    await kubectl.fails(/no-such-command/, 'exec', FIRST, '--', 'no-such-command');
  });
  await steps.check('attach -i: what is typed reaches the container, its output comes back', () => attach(world));
  await steps.check('run -i --rm: input, output and exit code of a pod of its own', async () => {
    const overrides = JSON.stringify({ spec: { nodeName: NODE, terminationGracePeriodSeconds: 1 } });
    const flags = ['-i', '--rm', '--restart=Never', `--image=${BUSYBOX}`, `--overrides=${overrides}`];
    const answer = await kubectl.run(['run', 'typed', ...flags, '--', 'sh', '-c', 'wc -c; exit 4'], 'twelve bytes');
    match(answer.stdout, /^12$/m);
    strictEqual(answer.exitCode, 4, answer.stderr);
  });
  await steps.check('port-forward: a page of the pod’s web server, ten times', () => forward(world));
  await steps.check('cp: a file in and out', async () => {
    const [there, back] = [join(daemon.dir, 'there'), join(daemon.dir, 'back')];
    await writeFile(there, randomBytes(300_000));
    await kubectl.ok('cp', there, `${FIRST}:/tmp/copied`);
    await kubectl.ok('cp', `${FIRST}:/tmp/copied`, back);
    ok((await readFile(there)).equals(await readFile(back)));
  });
}

async function logs({ steps, kubectl, kubelet }: World): Promise<void> {
  await steps.check('logs: both streams', async () => {
    deepStrictEqual((await kubectl.ok('logs', FIRST)).split('\n').toSorted(), ['hello from first', 'words on stderr']);
  });
  await steps.check('logs -f: lines as they are written, until the reader leaves', async () => {
    await kubectl.apply(
      pod('talker', { containers: [container('talker', 'n=0; while :; do echo line $((n += 1)); sleep 0.2; done')] }),
    );
    await waitReady(kubectl, 'talker');
    const client = kubectl.start('logs', '-f', 'talker');
    const ended = once(client, 'close');
    await printed(client.stdout, /line 1\n[^]*line 15\n/);
    client.kill();
    await ended;
    match(await kubectl.ok('logs', 'talker', '--tail=1', '--timestamps'), /^\d{4}-\d\d-\d\dT\S+ line \d+$/);
    await kubectl.ok('delete', 'pod', 'talker', '--wait=false');
  });
  await steps.check('logs -f goes on when the kubelet rotates the log', async () => {
    // more than containerLogMaxSize of the kubelet's configuration
    const script = 'n=0; while [ $n -lt 2000 ]; do echo "line $((n += 1)) of a log that is long"; done; sleep 1000';
    await withPod(kubectl, pod('writer', { containers: [container('writer', script)] }), async () => {
      await waitReady(kubectl, 'writer');
      const client = kubectl.start('logs', '-f', 'writer');
      const ended = once(client, 'close');
      await printed(client.stdout, /line 2000 of/);
      await eventually(
        async () => ok((await logFiles(kubelet.podLogsDir)).some((file) => /0\.log\.\d/.test(file))),
        SLOW_MS,
      );
      const later = printed(client.stdout, /after the rotation\n/);
      await inPod(kubectl, 'writer', 'sh', '-c', 'echo after the rotation >/proc/1/fd/1');
      await later;
      client.kill();
      await ended;
    });
  });
}

async function logFiles(directory: string): Promise<string[]> {
  return (await readdir(directory, { recursive: true })).filter((path) => path.includes('default_writer'));
}

async function attach({ kubectl }: World): Promise<void> {
  const script = 'echo ready; while read line; do echo "got $line"; done; echo end';
  await kubectl.apply(
    pod('listener', {
      restartPolicy: 'Never',
      containers: [container('listener', script, { stdin: true, stdinOnce: true })],
    }),
  );
  await waitReady(kubectl, 'listener');
  const client = kubectl.start('attach', '-i', 'listener');
  const ended = once(client, 'close');
  const answer = printed(client.stdout, /got one\ngot two\n/);
  client.stdin.write('one\ntwo\n');
  await answer;
  // its input ends with us: stdinOnce
  client.stdin.end();
  client.kill();
  await ended;
  await kubectl.ok('wait', '--for=jsonpath={.status.phase}=Succeeded', 'pod/listener', '--timeout=300s');
  match(await kubectl.ok('logs', 'listener'), /got two\nend$/);
  await kubectl.ok('delete', 'pod', 'listener', '--wait=false');
}

async function forward({ kubectl }: World): Promise<void> {
  const client = kubectl.start('port-forward', `pod/${FIRST}`, ':8080');
  const ended = once(client, 'close');
  try {
    const [, port] = await printed(client.stdout, /127\.0\.0\.1:(\d+) -> 8080/);
    for (let count = 0; count < 10; count++) {
      const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
      strictEqual((await response.text()).trim(), PAGE);
    }
    strictEqual(await inPod(kubectl, FIRST, 'wget', '-qO-', 'http://127.0.0.1:8080/'), PAGE);
  } finally {
    client.kill();
    await ended;
  }
}
