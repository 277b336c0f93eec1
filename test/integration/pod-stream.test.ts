import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Readable } from 'node:stream';
import { startLocalDaemon, type LocalDaemon } from '../support/local-daemon.ts';
import * as pods from '../support/pods.ts';
import { countFds } from '../support/resources.ts';
import { agentFds, allStreams, ended, expecting, never, outputOf, run, terminal } from '../support/sessions.ts';

const MIB = 1024 * 1024;
const skip = process.getuid?.() === 0 ? false : 'needs root';
const sha = (data: Buffer) => createHash('sha256').update(data).digest('hex');

describe('exec with streams', { skip }, () => {
  let daemon: LocalDaemon;
  let pod: pods.TestPod;
  let shell: string;
  const exec = (command: string[], request: object = {}) =>
    daemon.pods.execStream(shell, { command, ...allStreams, ...request }, never);
  const sh = (script: string, input?: string | Buffer) => run(daemon.pods, shell, ['sh', '-c', script], input);
  const running = async (text: string) =>
    Number((await pods.sh(daemon, shell, `ps -o args | grep -v grep | grep -c -e '${text}'`)).stdout);
  const gone = async (text: string) => {
    for (let i = 0; i < 100 && (await running(text)) > 0; i++) await sleep(50);
    const { stdout } = await pods.sh(daemon, shell, 'ps -o pid,ppid,args');
    assert.equal(await running(text), 0, `${text} is among\n${stdout}`);
  };

  before(async () => {
    daemon = await startLocalDaemon();
    pod = await pods.runPod(daemon, 'stream');
    shell = await pods.createAndStart(pod, 'shell', ['sleep', '100000']);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('carries stdin, stdout and stderr', { timeout: 240_000 }, async () => {
    assert.deepEqual(await sh('cat; echo err >&2; exit 3', 'hello\nworld'), {
      stdout: 'hello\nworld',
      stderr: 'err\n',
      code: 3,
      signal: 0,
    });
    const binary = randomBytes(1000);
    await using session = await exec(['cat']);
    session.stdin?.end(binary);
    assert.deepEqual(await outputOf(session), binary);
  });

  it('tells a signal from an exit code', { timeout: 240_000 }, async () => {
    assert.partialDeepStrictEqual(await sh('kill -TERM $$'), { code: 143, signal: 15 });
    assert.partialDeepStrictEqual(await sh('exit 143'), { code: 143, signal: 0 });
  });

  it('delivers signals', { timeout: 240_000 }, async () => {
    await using session = await exec([
      'sh',
      '-c',
      'trap "echo got; exit 7" USR1; echo ready; while :; do sleep 0.1; done',
    ]);
    const expect = expecting(session.stdout);
    await expect(/ready\n/);
    session.signal(10);
    await expect(/got\n/);
    assert.deepEqual(await session.exited, { code: 7, signal: 0 });
  });

  it('passes an environment and opens only the streams that are wanted', { timeout: 240_000 }, async () => {
    const env = { GREETING: 'hello world', PATH: '/bin:/mine' };
    const answer = await run(daemon.pods, shell, ['sh', '-c', 'echo "$GREETING $PATH $HOSTNAME"'], '', { env });
    assert.equal(answer.stdout, 'hello world /bin:/mine stream\n');
    const request = { stdin: false, stderr: false };
    await using session = await exec(['sh', '-c', 'cat; echo out; echo err >&2; readlink /proc/self/fd/2'], request);
    assert.deepEqual([session.stdin, session.stderr], [undefined, undefined]);
    assert.deepEqual(await ended(session), { stdout: 'out\n/dev/null\n', stderr: '', code: 0, signal: 0 });
  });

  it('refuses what cannot be', { timeout: 240_000 }, async () => {
    await assert.rejects(exec([]), { code: 'invalid_argument' });
    await assert.rejects(exec(['a\0b']), { code: 'invalid_argument' });
    await assert.rejects(exec(['true'], { tty: true }), { code: 'invalid_argument', message: /stderr/ });
    await assert.rejects(exec(['no-such-command']), { code: 'not_found', message: /no-such-command/ });
    await assert.rejects(exec(['/etc/passwd']), { code: 'permission_denied' });
    const request = { command: ['true'], ...allStreams };
    await assert.rejects(daemon.pods.execStream('f'.repeat(64), request, never), { code: 'not_found' });
    const created = await pods.create(pod, 'created', ['true']);
    await assert.rejects(daemon.pods.execStream(created, request, never), { code: 'failed_precondition' });
    assert.throws(() => daemon.pods.streamable(created), { code: 'failed_precondition' });
    await daemon.pods.removeContainer(created);
    const abort = AbortSignal.abort();
    await assert.rejects(daemon.pods.execStream(shell, request, abort), { code: 'cancelled' });
    assert.deepEqual(daemon.pods.streamable(shell.slice(0, 10)), { id: shell, tty: false, stdin: false });
    assert.deepEqual(daemon.pods.forwardable(pod.id.slice(0, 10)), { id: pod.id });
  });

  it('gives a terminal that echoes, resizes and ends at Ctrl-D', { timeout: 240_000 }, async () => {
    const size = { columns: 101, rows: 33 };
    await using session = await exec(['sh'], { ...terminal, size });
    const expect = expecting(session.stdout);
    session.stdin?.write('tty; stty size; echo $TERM\n');
    const answer = await expect(/xterm\r\n/);
    assert.match(answer, /tty; stty size/, 'no echo');
    assert.match(answer, /\/dev\/pts\/\d+\r\n33 101\r\n/);
    session.resize({ columns: 80, rows: 25 });
    session.stdin?.write('stty size\n');
    await expect(/25 80\r\n/);
    session.stdin?.write('sh -c "echo be; echo gun; exec sleep 1000"\n');
    await expect(/be\r\ngun\r\n/);
    session.stdin?.write('\x03');
    session.stdin?.write('echo left with $?\n');
    await expect(/left with 130\r\n/);
    session.stdin?.end('echo last\n');
    await expect(/last\r\nlast\r\n/);
    assert.partialDeepStrictEqual(await session.exited, { signal: 0 });
  });

  it('tells a program of a new size by SIGWINCH', { timeout: 240_000 }, async () => {
    const script = 'trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.1; done';
    await using session = await exec(['sh', '-c', script], terminal);
    const expect = expecting(session.stdout);
    await expect(/ready\r\n/);
    session.resize({ columns: 44, rows: 11 });
    await expect(/11 44\r\n/);
    assert.equal((await session.exited).code, 0);
  });

  it('hands over all of a terminal’s output', { timeout: 240_000 }, async () => {
    await using session = await exec(['seq', '100000'], terminal);
    const lines = (await outputOf(session)).toString().split('\r\n');
    assert.deepEqual([lines.length, lines.at(-2)], [100_001, '100000']);
  });

  it('carries 32 MiB each way unharmed', { timeout: 240_000 }, async () => {
    const data = randomBytes(32 * MIB);
    await using session = await exec(['cat']);
    Readable.from(slices(data, 100_000)).pipe(session.stdin!);
    assert.equal(sha(await outputOf(session)), sha(data));
  });

  it(
    'stops the process when nobody reads, and neither the other stream nor the exit',
    { timeout: 240_000 },
    async () => {
      const held = process.memoryUsage();
      const script =
        'trap "kill -9 \\$a \\$b; exit 9" TERM; (while :; do date +%s >&2; sleep 0.2; done) & a=$!; cat /dev/zero & b=$!; echo first >&2; wait';
      await using session = await exec(['sh', '-c', script]);
      const expect = expecting(session.stderr);
      await expect(/first\n/);
      for (let i = 0; i < 10; i++) await expect(/\d{9,}\n/);
      const cat = Number((await pods.sh(daemon, shell, 'pidof cat')).stdout);
      const written = async () =>
        /wchar: (\d+)/.exec((await pods.sh(daemon, shell, `cat /proc/${cat}/io`)).stdout)?.[1];
      const stood = Number(await written());
      assert.ok(stood > 0 && stood < 2 * MIB, `${stood} bytes were taken from a process that nobody reads`);
      await sleep(300);
      assert.equal(Number(await written()), stood);
      const { rss, external } = process.memoryUsage();
      assert.ok(external - held.external < 8 * MIB, `${external - held.external} bytes more in buffers`);
      assert.ok(rss > 0);
      session.signal(15);
      assert.deepEqual(await session.exited, { code: 9, signal: 0 });
    },
  );

  it('does not stall when the process reads no input', { timeout: 240_000 }, async () => {
    await using session = await exec(['sh', '-c', 'exec <&-; echo deaf; sleep 1; exit 5']);
    session.stdin?.end(Buffer.alloc(4 * MIB));
    assert.partialDeepStrictEqual(await ended(session), { stdout: 'deaf\n', code: 5 });
  });

  it('signals and resizes reach a process that does not read its input', { timeout: 240_000 }, async () => {
    await using session = await exec(['sh', '-c', 'trap "exit 6" USR1; echo ready; while :; do sleep 0.1; done']);
    const expect = expecting(session.stdout);
    session.stdin?.write(Buffer.alloc(4 * MIB));
    await expect(/ready\n/);
    session.signal(10);
    assert.equal((await session.exited).code, 6);
  });

  it('runs 50 at once', { timeout: 240_000 }, async () => {
    const numbers = Array.from({ length: 50 }, (_, index) => index);
    const answers = await Promise.all(numbers.map((n) => sh(`cat; echo e${n} >&2; exit ${n}`, `in ${n}`)));
    assert.deepEqual(
      answers,
      numbers.map((n) => ({ stdout: `in ${n}`, stderr: `e${n}\n`, code: n, signal: 0 })),
    );
  });

  it('survives a flood of tiny writes', { timeout: 240_000 }, async () => {
    const count = 5000;
    await using session = await exec(['dd', 'bs=128', 'if=/dev/zero', `count=${count}`, 'status=none']);
    assert.equal((await outputOf(session)).length, count * 128);
    await using echo = await exec(['dd', 'bs=128', 'status=none']);
    for (let i = 0; i < count; i++) echo.stdin?.write(Buffer.alloc(128, i));
    echo.stdin?.end();
    const back = await outputOf(echo);
    assert.deepEqual([back.length, back[128 * 77 + 5]], [count * 128, 77]);
  });

  it('ends a command whose client leaves: end-of-file, SIGHUP, SIGKILL', { timeout: 240_000 }, async () => {
    const told = await exec([
      'sh',
      '-c',
      'trap "echo hup > /tmp/told; exit" HUP; echo ready; cat; while :; do sleep 0.1; done',
    ]);
    await expecting(told.stdout)(/ready\n/);
    await told[Symbol.asyncDispose]();
    await assert.rejects(told.exited, { code: 'cancelled' });
    for (let i = 0; i < 100 && (await pods.sh(daemon, shell, 'cat /tmp/told')).stdout !== 'hup\n'; i++) await sleep(50);
    assert.equal((await pods.sh(daemon, shell, 'cat /tmp/told')).stdout, 'hup\n');

    const deaf = await exec(['sh', '-c', 'trap "" HUP; echo ready; setsid sleep 7321 & while :; do sleep 0.1; done']);
    await expecting(deaf.stdout)(/ready\n/);
    await deaf[Symbol.asyncDispose]();
    await gone('sleep 7321');

    const tty = await exec(['sh', '-c', 'echo ready; sleep 8321'], terminal);
    await expecting(tty.stdout)(/ready\r\n/);
    await tty[Symbol.asyncDispose]();
    await gone('sleep 8321');
  });

  it('does not wait for what a command leaves behind', { timeout: 240_000 }, async () => {
    assert.partialDeepStrictEqual(await sh('sleep 6321 & echo done'), { stdout: 'done\n', code: 0 });
    assert.equal(await running('sleep 6321'), 1);
  });

  it('leaks nothing', { timeout: 240_000 }, async () => {
    const cycle = async (): Promise<void> => {
      await sh('cat -', 'x');
      const session = await exec(['cat', '-'], terminal);
      await session[Symbol.asyncDispose]();
      await exec(['no-such-command']).catch(() => undefined);
    };
    for (let i = 0; i < 3; i++) await cycle();
    await gone('cat -');
    await sleep(500);
    const count = async () => ({ host: await countFds(daemon), guest: await agentFds(daemon.pods, pod.id) });
    const held = await count();
    for (let i = 0; i < 20; i++) await cycle();
    await gone('cat -');
    await sleep(500);
    const now = await count();
    assert.ok(now.host <= held.host + 2 && now.guest <= held.guest + 2, JSON.stringify({ held, now }));
    const { stdout } = await pods.sh(daemon, shell, 'ls -d /sys/fs/cgroup/exec-*');
    assert.ok(stdout.trim().split('\n').length <= 2, stdout); // this one, and that of what was left behind
  });
});

function* slices(data: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}
