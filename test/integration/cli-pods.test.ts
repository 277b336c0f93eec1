import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCli, startCli, startOnTerminal } from '../support/cli.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countFds, processesOf } from '../support/resources.ts';
import { askTcp } from '../support/streaming/tcp.ts';

const MIB = 1024 * 1024;
const skip = process.getuid?.() === 0 ? false : 'needs root';
const TIMEOUT = { timeout: 240_000 };

interface Row {
  readonly name: string;
  readonly rssBytes: number;
  readonly cpuPercent: number | null;
  readonly guestMemoryBytes: number | null;
  readonly agentRoundTripMs: number | null;
  readonly agentSilentMs: number;
}

/** The real commands, a real daemon, and one pod with a real VM. */
describe('bin/caisson and pods', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  const args = (...words: string[]): string[] => ['--config', daemon.configFile, ...words];
  const exec = (...words: string[]) => runCli(args('exec', 'web/shell', ...words));

  before(async () => {
    daemon = await startTestDaemon();
    pod = await pods.runPod(daemon, 'web');
    await pods.createAndStart(pod, 'shell', ['sleep', '100000']);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('runs commands, with their outputs, exit codes and input', TIMEOUT, async () => {
    const both = await exec('sh', '-c', 'echo out; echo err >&2; exit 42');
    assert.deepEqual(both, { code: 42, stdout: 'out\n', stderr: 'err\n' });
    assert.equal((await exec('sh', '-c', 'kill -KILL $$')).code, 137);
    const input = randomBytes(3 * MIB);
    const { stdout } = await runCli(args('exec', '-i', 'web', 'sha256sum'), input);
    assert.equal(stdout.split(' ')[0], createHash('sha256').update(input).digest('hex'));
    const missing = await exec('no-such-command');
    assert.deepEqual([missing.code, missing.stdout], [127, '']);
    assert.match(missing.stderr, /no-such-command/);
  });

  it('gives a command a terminal that follows this one', TIMEOUT, async () => {
    const terminal = startOnTerminal(args('exec', '-it', 'web', 'sh'), 'stty rows 30 cols 100; tty');
    const { child, ended, printed } = terminal;
    const [, tty = ''] = await printed(/(\/dev\/pts\/\d+)/);
    child.stdin.write('stty size; echo "<$?>"\r');
    await printed(/30 100\r\n<0>/);
    execFileSync('stty', ['-F', tty, 'cols', '77']);
    child.stdin.write('until stty size | grep "30 77"; do sleep 0.1; done\r');
    await printed(/30 77\r\n/);
    // not this process, but what runs in the container is interrupted
    // while the shell edits a line, ctrl-C is a character like any other
    child.stdin.write('sh -c "echo begun; exec sleep 1000"\r');
    await printed(/\nbegun\r\n/);
    child.stdin.write('\u0003');
    child.stdin.write('echo "interrupted $?"; exit 5\r');
    const { code, stdout } = await ended;
    assert.equal(code, 5, stdout);
    assert.match(stdout, /interrupted 130\r\n[^]*restored/);
  });

  it('attaches, detaches, and ends with the container', TIMEOUT, async () => {
    const script = 'while read line; do [ "$line" = end ] && exit 6; echo "got $line"; done';
    await pods.createAndStart(pod, 'reader', ['sh', '-c', script], { stdin: true, tty: true });
    const first = startOnTerminal(args('attach', 'web/reader'));
    // who attaches is heard only when the container reads: answers tell when
    first.child.stdin.write('one\r');
    await first.printed(/got one/);
    first.child.stdin.write('\u0010\u0011');
    const left = await first.ended;
    assert.equal(left.code, 0);
    assert.match(left.stdout, /detached[^]*restored/);
    const second = startCli(args('attach', 'web/reader'));
    second.child.stdin.write('two\n');
    await second.printed(/got two/);
    second.child.stdin.write('end\n');
    assert.equal((await second.ended).code, 6);
  });

  it('forwards ports, many connections at once', TIMEOUT, async () => {
    await pods.createAndStart(pod, 'sums', ['nc', '-ll', '-p', '7000', '-e', 'sha256sum']);
    await exec('sh', '-c', 'until netstat -ltn | grep -q :7000; do sleep 0.05; done');
    const { child, ended, printed } = startCli(args('port-forward', 'web', ':7000'));
    const [, port] = await printed(/127\.0\.0\.1:(\d+) -> default\/web:7000/);
    const inputs = Array.from({ length: 8 }, () => randomBytes(300_000));
    const answers = await Promise.all(inputs.map((input) => askTcp(Number(port), input)));
    const sums = inputs.map((input) => createHash('sha256').update(input).digest('hex'));
    assert.deepEqual(
      answers.map((answer) => answer.split(' ')[0]),
      sums,
    );
    child.kill('SIGINT');
    assert.equal((await ended).code, 130);
  });

  it('follows a log across a rotation and a restart of the daemon, to its end', TIMEOUT, async () => {
    const script = 'i=0; while [ ! -e /tmp/stop ]; do echo "line $i"; i=$((i+1)); sleep 0.1; done; echo last';
    const id = await pods.createAndStart(pod, 'ticker', ['sh', '-c', script]);
    const { ended, printed } = startCli(args('logs', '-f', 'web/ticker'));
    await printed(/line 3\n/);
    const path = join(daemon.dir, 'logs/web/ticker.log');
    await rename(path, `${path}.1`);
    await daemon.cri.runtime.ReopenContainerLog({ container_id: id });
    await printed(/line 15\n/);
    await daemon.restart();
    await pods.exec(daemon, id, ['touch', '/tmp/stop']);
    const { code, stdout, stderr } = await ended;
    assert.deepEqual([code, stderr], [0, '']);
    const lines = stdout.trimEnd().split('\n');
    assert.equal(lines.pop(), 'last');
    assert.deepEqual(
      lines,
      lines.map((_, i) => `line ${i}`),
    );
    const { stdout: tail } = await runCli(args('logs', '--tail', '2', id));
    assert.equal(tail, `${lines.at(-1)}\nlast\n`);
    // nothing happens any more that an event could tell of
    assert.deepEqual(await runCli(args('logs', '-f', '--tail', '1', id)), { code: 0, stdout: 'last\n', stderr: '' });
  });

  it('shows what there is and what it uses, also while a VM hangs', TIMEOUT, async () => {
    const { stdout } = await runCli(args('ps'));
    assert.match(stdout, /^default +web +\w{13} +[\d.]+ +shell +\w{13} +running /m);
    assert.doesNotMatch(stdout, /ticker/);
    assert.match((await runCli(args('ps', '-a'))).stdout, /ticker +\w{13} +exited/);
    const top = async (): Promise<Row | undefined> => {
      const rows = JSON.parse((await runCli(args('top', '--json'))).stdout) as Row[];
      return rows.find(({ name }) => name === 'web');
    };
    const row = await top();
    assert.ok(row && row.rssBytes > 20 * MIB, JSON.stringify(row));
    assert.ok((row.guestMemoryBytes ?? 0) > 0 && (row.agentRoundTripMs ?? 0) > 0, JSON.stringify(row));
    assert.notEqual(row.cpuPercent, null);
    const qemu = (await processesOf(daemon)).find(({ name }) => name.startsWith('qemu'));
    assert.ok(qemu);
    process.kill(qemu.pid, 'SIGSTOP');
    try {
      const hung = await top();
      assert.ok(hung && hung.agentSilentMs > 0 && hung.rssBytes > 20 * MIB, JSON.stringify(hung));
      assert.match((await runCli(args('top'))).stdout, /silent for \d+ s/);
    } finally {
      process.kill(qemu.pid, 'SIGCONT');
    }
  });

  it('leaves nothing open in the daemon, however it ends', TIMEOUT, async () => {
    await exec('true');
    const fds = await countFds(daemon);
    const { child, ended } = startCli(args('exec', '-i', 'web', 'sh', '-c', 'echo here; cat'));
    child.stdout.once('data', () => child.kill('SIGKILL'));
    await ended;
    for (let i = 0; i < 100 && (await countFds(daemon)) > fds; i++) await new Promise((done) => setTimeout(done, 50));
    assert.ok((await countFds(daemon)) <= fds);
  });

  it('says what is wrong', TIMEOUT, async () => {
    const several = await runCli(args('exec', 'web', 'true'));
    assert.equal(several.code, 125);
    assert.match(several.stderr, /default\/web can be any of .*default\/web\/shell \(\w{13}\)/);
    const ended = await runCli(args('exec', 'web/ticker', 'true'));
    assert.match(ended.stderr, /is exited, not running/);
    await daemon.stop();
    const none = await runCli(args('ps'));
    assert.equal(none.code, 1);
    assert.match(none.stderr, /no caisson daemon answers on .*\n {2}to fix it: start one/);
    await daemon.restart();
  });
});
