import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countFds } from '../support/resources.ts';

const MIB = 1024 * 1024;
const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('ExecSync', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let shell: string;
  const sh = (script: string, timeoutS?: number) => pods.sh(daemon, shell, script, timeoutS);
  const execSync = (cmd: string[], timeout: string, options?: { signal: AbortSignal }) =>
    daemon.cri.runtime.ExecSync({ container_id: shell, cmd, timeout }, options);
  /** How many processes of the container have this in their command line. */
  const running = async (text: string) => Number((await sh(`ps -o args | grep -v grep | grep -c -e '${text}'`)).stdout);
  const gone = async (text: string) => {
    for (let i = 0; i < 50 && (await running(text)) > 0; i++) await sleep(50);
    assert.equal(await running(text), 0, text);
  };

  before(async () => {
    daemon = await startTestDaemon();
    pod = await pods.runPod(daemon, 'exec');
    shell = await pods.createAndStart(pod, 'shell', ['sleep', '100000']);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('returns the exit code and both streams', async () => {
    const answer = await sh('echo out; echo err >&2; exit 3');
    assert.deepEqual(answer, { stdout: 'out\n', stderr: 'err\n', exitCode: 3 });
    assert.deepEqual(await pods.exec(daemon, shell, ['true']), { stdout: '', stderr: '', exitCode: 0 });
    assert.equal((await sh('kill -9 $$')).exitCode, 137);
    const binary = await execSync(['printf', '\\377\\000\\n'], '10');
    assert.deepEqual(binary.stdout, Buffer.from([0xff, 0, 0x0a]));
  });

  it('passes arguments as they are', async () => {
    const args = ['two words', '$HOME', '"quoted"', 'line\nbreak', '', '☃'];
    const { stdout } = await pods.exec(daemon, shell, ['printf', '<%s>', ...args]);
    assert.equal(stdout, args.map((arg) => `<${arg}>`).join(''));
  });

  it('ends with 127 without the command and with 126 when it cannot be executed', async () => {
    const missing = await pods.exec(daemon, shell, ['no-such-command', 'x']);
    assert.deepEqual([missing.exitCode, missing.stdout], [127, '']);
    assert.match(missing.stderr, /no-such-command/);
    const missingPath = await pods.exec(daemon, shell, ['/no/such/command']);
    assert.deepEqual([missingPath.exitCode, missingPath.stdout], [127, '']);
    const file = await pods.exec(daemon, shell, ['/etc/passwd']);
    assert.deepEqual([file.exitCode, file.stdout], [126, ''], file.stderr);
    const directory = await pods.exec(daemon, shell, ['/etc']);
    assert.deepEqual([directory.exitCode, directory.stdout], [126, ''], directory.stderr);
    // found out by crun when it is no longer listened to: its own exit code, and the reason on stderr
    await sh('printf "\\001\\002" > /tmp/nonsense; chmod +x /tmp/nonsense');
    const nonsense = await pods.exec(daemon, shell, ['/tmp/nonsense']);
    assert.notEqual(nonsense.exitCode, 0);
    assert.match(nonsense.stderr, /Exec format error/);
  });

  it('answers in a container that has lost its programs', async () => {
    const bare = await pods.createAndStart(pod, 'bare', ['sleep', '1000']);
    assert.equal((await pods.sh(daemon, bare, 'rm -rf /bin')).exitCode, 0);
    const answer = await pods.exec(daemon, bare, ['sh', '-c', 'true']);
    assert.equal(answer.exitCode, 127, answer.stderr);
    await daemon.cri.runtime.RemoveContainer({ container_id: bare });
  });

  it('kills everything that the command has started when its time is over', async () => {
    const script = 'sleep 4321 & (setsid sleep 4322 &) ; sleep 4323';
    const started = performance.now();
    await assert.rejects(execSync(['sh', '-c', script], '1'), { code: status.DEADLINE_EXCEEDED, details: /1000 ms/ });
    assert.ok(performance.now() - started < 5000);
    assert.equal(await running('sleep 43'), 0);
  });

  it('kills the command when the caller goes away', async () => {
    const caller = new AbortController();
    const answer = execSync(['sh', '-c', 'sleep 5321 & sleep 5322'], '0', { signal: caller.signal });
    answer.catch(() => undefined);
    while ((await running('sleep 53')) < 2) await sleep(20);
    caller.abort();
    await assert.rejects(answer, { code: status.CANCELLED });
    await gone('sleep 53');
  });

  it('does not wait for what a command leaves behind', async () => {
    const started = performance.now();
    const answer = await sh('sleep 6321 & echo done');
    assert.deepEqual(answer, { stdout: 'done\n', stderr: '', exitCode: 0 });
    assert.ok(performance.now() - started < 5000);
    assert.equal(await running('sleep 6321'), 1);
    await sh(`ps -o pid,args | grep '[s]leep 6321' | while read pid args; do kill $pid; done`);
    assert.equal(await running('sleep 6321'), 0);
  });

  it('cuts each stream at 16 MiB', { timeout: 120_000 }, async () => {
    const answer = await execSync(
      ['sh', '-c', 'head -c 40000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 4'],
      '100',
    );
    assert.deepEqual([answer.stdout.length, answer.stderr.length, answer.exit_code], [16 * MIB, 16 * MIB, 4]);
  });

  it('returns all of what is below the limit', { timeout: 60_000 }, async () => {
    const { stdout, exit_code } = await execSync(['head', '-c', String(16 * MIB - 1), '/dev/zero'], '50');
    assert.deepEqual([stdout.length, exit_code], [16 * MIB - 1, 0]);
  });

  it('runs many at once', async () => {
    const numbers = Array.from({ length: 10 }, (_, index) => index);
    const answers = await Promise.all(numbers.map((n) => sh(`echo ${n}; echo e${n} >&2; exit ${n}`)));
    const expected = numbers.map((n) => ({ stdout: `${n}\n`, stderr: `e${n}\n`, exitCode: n }));
    assert.deepEqual(answers, expected);
  });

  it('answers while another container takes all it can get', async () => {
    const busy = await pods.createAndStart(pod, 'busy', ['sleep', '1000']);
    const spin = await pods.createAndStart(pod, 'spin', ['sh', '-c', 'while :; do :; done']);
    const stuck = daemon.cri.runtime.ExecSync({ container_id: busy, cmd: ['sh', '-c', 'kill -STOP $$'], timeout: '5' });
    stuck.catch(() => undefined);
    const started = performance.now();
    assert.equal((await sh('echo alive')).stdout, 'alive\n');
    assert.ok(performance.now() - started < 4000, `${performance.now() - started} ms`);
    await assert.rejects(stuck, { code: status.DEADLINE_EXCEEDED });
    for (const id of [busy, spin]) await daemon.cri.runtime.RemoveContainer({ container_id: id });
  });

  it('refuses what cannot be', async () => {
    const created = await pods.create(pod, 'created', ['true']);
    const { runtime } = daemon.cri;
    await assert.rejects(pods.exec(daemon, created, ['true']), {
      code: status.FAILED_PRECONDITION,
      details: /created/,
    });
    await assert.rejects(pods.exec(daemon, 'f'.repeat(64), ['true']), { code: status.NOT_FOUND });
    await assert.rejects(pods.exec(daemon, '', ['true']), { code: status.INVALID_ARGUMENT, details: /container_id/ });
    await assert.rejects(pods.exec(daemon, shell, []), { code: status.INVALID_ARGUMENT, details: /cmd/ });
    await assert.rejects(execSync(['true'], '-1'), { code: status.INVALID_ARGUMENT, details: /timeout/ });
    await assert.rejects(pods.exec(daemon, shell, ['a\0b']), { code: status.INVALID_ARGUMENT, details: /cmd/ });
    await runtime.RemoveContainer({ container_id: created });
  });

  it('keeps no descriptors and no cgroups', async () => {
    await sh('true');
    const fds = await countFds(daemon);
    for (let i = 0; i < 20; i++) await sh('true');
    assert.ok((await countFds(daemon)) <= fds + 2, `${fds} before, ${await countFds(daemon)} after`);
    // the container's cgroup namespace shows the execs' own cgroups below its root
    const { stdout } = await sh('ls -d /sys/fs/cgroup/exec-*');
    assert.equal(stdout.trim().split('\n').length, 1, stdout);
  });
});
