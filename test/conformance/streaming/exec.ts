import { deepStrictEqual, match, ok, rejects, strictEqual } from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { create, sh } from '../../support/pods.ts';
import { eventually } from '../../support/steps.ts';
import { answerOf, exec, execUrl, runClient, startClient, startCrictl, type Transport, type World } from './world.ts';

const MIB = 1024 * 1024;
const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const script = (text: string): string[] => ['sh', '-c', text];

export async function execByClientGo(world: World, transport: Transport): Promise<void> {
  const { steps, daemon, box } = world;
  await steps.check('output on both streams, and the exact exit code', async () => {
    const { stdout, stderr, code } = await exec(world, transport, script('echo out; echo err >&2; exit 42'));
    deepStrictEqual([stdout.toString(), stderr, code], ['out\n', 'err\n', 42]);
  });
  await steps.check('a signal as 128 + n', async () => {
    strictEqual((await exec(world, transport, script('kill -TERM $$'))).code, 143);
  });
  await steps.check('input until its end, every byte of it, there and back', async () => {
    const bytes = randomBytes(MIB);
    const { stdout, code } = await exec(world, transport, ['cat'], { input: bytes });
    deepStrictEqual([sha(stdout), code], [sha(bytes), 0]);
  });
  await steps.check('8 MiB of output, none of it lost at the end', async () => {
    const command = script(`dd if=/dev/urandom of=/tmp/blob bs=1M count=8 2>/dev/null; cat /tmp/blob`);
    const { stdout } = await exec(world, transport, command);
    const { stdout: sum } = await sh(daemon, box, 'sha256sum </tmp/blob; rm /tmp/blob');
    strictEqual(sha(stdout), sum.split(' ')[0]);
  });
  await steps.check('input that the command does not want', async () => {
    const { stdout, code } = await exec(world, transport, script('exec <&-; echo enough'), { input: randomBytes(MIB) });
    deepStrictEqual([stdout.toString(), code], ['enough\n', 0]);
  });
  await steps.check('a command that is not there is named', async () => {
    const { stderr, code } = await exec(world, transport, ['no-such-command']);
    strictEqual(code, 125);
    match(stderr, /no-such-command/);
  });
  await steps.check('a terminal, which has the size that the client says', async () => {
    const url = await execUrl(world, script('while [ "$(stty size)" != "43 132" ]; do sleep 0.1; done; tty'), {
      stdin: true,
      tty: true,
    });
    const client = startClient(['run', '-transport', transport, '-stdin', '-tty', '-sizes', '80x24,132x43', url]);
    const { stdout, code } = await answerOf(client);
    match(stdout.toString(), /\/dev\/pts\/\d+\r\n$/);
    strictEqual(code, 0);
  });
  await steps.check('a shell in a terminal, which is typed into', async () => {
    const url = await execUrl(world, ['sh'], { stdin: true, tty: true });
    const client = startClient(['run', '-transport', transport, '-stdin', '-tty', url]);
    client.stdin.write('echo $((6 * 7)); exit 5\r');
    const { stdout, code } = await answerOf(client);
    match(stdout.toString(), /^42\r$/m);
    strictEqual(code, 5);
  });
  await steps.check('what is left behind by a client that is killed, ends', async () => {
    const url = await execUrl(world, script('echo $$; exec sleep 98765'), { stdin: true });
    const client = startClient(['run', '-transport', transport, '-stdin', url]);
    const [line] = (await once(client.stdout, 'data')) as [Buffer];
    const pid = String(line).trim();
    strictEqual((await sh(daemon, box, `kill -0 ${pid}`)).exitCode, 0);
    client.kill('SIGKILL');
    await eventually(async () => ok((await sh(daemon, box, `kill -0 ${pid}`)).exitCode !== 0));
  });
  await steps.check('eight at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => exec(world, transport, script(`cat; exit ${i}`), { input: `number ${i}` })),
    );
    deepStrictEqual(
      answers.map(({ stdout, code }) => [stdout.toString(), code]),
      answers.map((_, i) => [`number ${i}`, i]),
    );
  });
  await steps.check('a URL works once', async () => {
    const url = await execUrl(world, ['true']);
    strictEqual((await runClient(['run', '-transport', transport, url])).code, 0);
    const again = await runClient(['run', '-transport', transport, url]);
    strictEqual(again.code, 125);
    match(again.stderr, /404|no such stream|not found/i);
  });
}

/** Versions before those that clients choose today. */
export async function olderProtocols(world: World): Promise<void> {
  const command = script('read line; echo "got $line"; exit 3');
  const all: [Transport, string, number | undefined][] = [
    ['spdy', 'v4.channel.k8s.io', 3],
    // text instead of a status: there is an error, and no code
    ['spdy', 'v3.channel.k8s.io', 125],
    ['spdy', 'v2.channel.k8s.io', 125],
    ['websocket', 'v4.channel.k8s.io', 3],
    // version 1 of client-go sees all streams end at once, and may overlook the error
    ['websocket', 'channel.k8s.io', undefined],
  ];
  for (const [transport, protocols, wanted] of all) {
    await world.steps.check(`${protocols} over ${transport}`, async () => {
      const { stdout, stderr, code } = await exec(world, transport, command, { input: 'it\n', protocols });
      strictEqual(stdout.toString(), 'got it\n');
      if (wanted !== undefined) strictEqual(code, wanted);
      if (wanted === 125) match(stderr, /non-zero exit code: 3/);
    });
  }
}

export async function execByCrictl(world: World, transport: Transport): Promise<void> {
  const { steps, crictl, box } = world;
  await steps.check('crictl exec', async () => {
    strictEqual(await crictl.ok('exec', '-r', transport, box, 'echo', 'hello'), 'hello');
  });
  await steps.check('crictl exec of a command that fails', async () => {
    await crictl.fails(/exit code 42/, 'exec', '-r', transport, box, 'sh', '-c', 'exit 42');
  });
  await steps.check('crictl exec -i: input until its end', async () => {
    const client = startCrictl(world, ['exec', '-i', '-r', transport, box, 'sh', '-c', 'cat; echo over']);
    const bytes = randomBytes(MIB);
    client.stdin.end(bytes);
    const { stdout, stderr, code } = await answerOf(client);
    strictEqual(code, 0, stderr);
    strictEqual(sha(stdout), sha(Buffer.concat([bytes, Buffer.from('over\n')])));
  });
}

export async function refusals({ steps, daemon, pod, box }: World): Promise<void> {
  const { runtime } = daemon.cri;
  const streams = { stdin: false, stdout: true, stderr: true, tty: false };
  const codes = { invalid: { code: 3 }, notFound: { code: 5 }, precondition: { code: 9 } };
  await steps.check('an unknown container or pod: NotFound', async () => {
    await rejects(runtime.Exec({ container_id: '0123', cmd: ['true'], ...streams }), codes.notFound);
    await rejects(runtime.Attach({ container_id: '0123', ...streams }), codes.notFound);
    await rejects(runtime.PortForward({ pod_sandbox_id: '0123', port: [80] }), codes.notFound);
  });
  await steps.check('a container that does not run: FailedPrecondition', async () => {
    const id = await create(pod, 'created', ['true']);
    await rejects(runtime.Exec({ container_id: id, cmd: ['true'], ...streams }), codes.precondition);
    await rejects(runtime.Attach({ container_id: id, ...streams }), codes.precondition);
    await runtime.RemoveContainer({ container_id: id });
    await rejects(runtime.Exec({ container_id: id, cmd: ['true'], ...streams }), codes.notFound);
  });
  await steps.check('a terminal with stderr, no stream, no command, a port out of range: InvalidArgument', async () => {
    await rejects(runtime.Exec({ container_id: box, cmd: ['sh'], ...streams, tty: true }), codes.invalid);
    await rejects(runtime.Exec({ container_id: box, cmd: ['sh'] }), codes.invalid);
    await rejects(runtime.Exec({ container_id: box, cmd: [], ...streams }), codes.invalid);
    await rejects(runtime.Attach({ container_id: box, ...streams, tty: true }), codes.invalid);
    await rejects(runtime.Attach({ container_id: box }), codes.invalid);
    await rejects(runtime.PortForward({ pod_sandbox_id: pod.id, port: [70_000] }), codes.invalid);
    await rejects(runtime.Exec({ container_id: '', cmd: ['true'], ...streams }), codes.invalid);
  });
}
