import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerConfig } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import { isCaissonError } from '../../src/lib/errors.ts';
import type { ProcessSession } from '../../src/pod/contracts.ts';
import { startLocalDaemon, type LocalDaemon } from '../support/local-daemon.ts';
import * as pods from '../support/pods.ts';
import { ended, expecting, never } from '../support/sessions.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const TIMEOUT = { timeout: 240_000 };
const outputs = { stdin: false, stdout: true, stderr: true };
const all = { ...outputs, stdin: true };

describe('attach', { skip }, () => {
  let daemon: LocalDaemon;
  let pod: pods.TestPod;
  const start = (name: string, script: string, config: ContainerConfig = {}) =>
    pods.createAndStart(pod, name, ['sh', '-c', script], config);
  const attach = (id: string, streams = all) => daemon.pods.attach(id, streams, never);
  const remove = (id: string) => daemon.pods.removeContainer(id);

  before(async () => {
    daemon = await startLocalDaemon();
    pod = await pods.runPod(daemon, 'attach');
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('gives several clients what comes from now on, and the log all of it', TIMEOUT, async () => {
    const script = 'echo early; read x; echo "out $x"; echo "err $x" >&2; read y; exit 3';
    const id = await start('several', script, { stdin: true });
    for (let i = 0; i < 100 && (await pods.readLog(pod, 'several.log')).length === 0; i++) await sleep(50);
    const [first, second] = [await attach(id), await attach(id, outputs)];
    assert.equal(second.stdin, undefined);
    first.stdin?.write('hello\nand bye\n');
    const expected = { stdout: 'out hello\n', stderr: 'err hello\n', code: 3, signal: 0 };
    assert.deepEqual(await Promise.all([ended(first), ended(second)]), [expected, expected]);
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    const log = await pods.readLog(pod, 'several.log');
    assert.equal(pods.textOf(log), 'early\nout hello\n');
    await assert.rejects(attach(id), { code: 'failed_precondition' });
    await remove(id);
  });

  it('leaves a container alone whose client leaves', TIMEOUT, async () => {
    const id = await start('left', 'while read x; do echo "got $x"; done; echo over', { stdin: true });
    for (const word of ['one', 'two']) {
      await using session = await attach(id);
      session.stdin?.end(`${word}\n`);
      await expecting(session.stdout)(new RegExp(`got ${word}\n`));
    }
    await sleep(200);
    assert.equal((await pods.containerStatus(daemon, id)).state, 'CONTAINER_RUNNING');
    await remove(id);
  });

  it('closes the stdin of a stdin_once container when its first client ends or leaves', TIMEOUT, async () => {
    for (const leaves of [false, true]) {
      const id = await start(`once-${leaves}`, 'cat; echo over', { stdin: true, stdin_once: true });
      const watcher = await attach(id, outputs);
      const session = await attach(id);
      session.stdin?.write('word\n');
      await expecting(session.stdout)(/word\n/);
      if (leaves) await session[Symbol.asyncDispose]();
      else session.stdin?.end();
      assert.deepEqual(await ended(watcher), { stdout: 'word\nover\n', stderr: '', code: 0, signal: 0 });
      await remove(id);
    }
  });

  it('drops what is written to a container without stdin', TIMEOUT, async () => {
    const id = await start('deaf', 'cat; echo nothing came; exec sleep 1000');
    await using session = await attach(id);
    await new Promise<void>((resolve) => session.stdin?.write(Buffer.alloc(1024 * 1024), () => resolve()));
    const { code, signal } = await Promise.race([session.exited, sleep(200).then(() => ({ code: -1, signal: 0 }))]);
    assert.deepEqual([code, signal], [-1, 0]);
    session.signal(9);
    assert.deepEqual(await session.exited, { code: 137, signal: 9 });
    await remove(id);
  });

  it('shares a terminal', TIMEOUT, async () => {
    const id = await start('tty', 'while read x; do echo "$x and $(stty size)"; done', { stdin: true, tty: true });
    assert.deepEqual(daemon.pods.streamable(id), { id, tty: true, stdin: true });
    await using first = await attach(id, { ...all, stderr: false });
    await using second = await attach(id, { ...all, stderr: false });
    const expects = [expecting(first.stdout), expecting(second.stdout)] as const;
    first.resize({ columns: 99, rows: 22 });
    first.stdin?.write('one\n');
    for (const expect of expects) await expect(/one\r\none and 22 99\r\n/);
    await first[Symbol.asyncDispose]();
    second.stdin?.write('two\n');
    await expects[1](/two\r\ntwo and 22 99\r\n/);
    assert.equal((await pods.containerStatus(daemon, id)).state, 'CONTAINER_RUNNING');
    await remove(id);
  });

  it('waits for a slow client, cuts off one that does not read, and loses no line', TIMEOUT, async () => {
    const count = 200_000;
    const id = await start('much', `read x; seq ${count}; echo done`, { stdin: true });
    const stuck = await attach(id, outputs);
    const slow = await attach(id);
    slow.stdin?.write('go\n');
    const read = readSlowly(slow);
    await assert.rejects(stuck.exited, { code: 'resource_exhausted' });
    const [stdout, { code }] = await Promise.all([read, slow.exited]);
    assert.deepEqual([stdout.length, stdout.slice(-12), code], [1_288_895 + 5, `${count}\ndone\n`, 0]);
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED', 60_000);
    assert.equal(pods.textOf(await pods.readLog(pod, 'much.log')), stdout);
    await remove(id);
  });

  it('gives a client that is behind the rest of a container that has ended', TIMEOUT, async () => {
    const id = await start('behind', 'read x; seq 40000; exit 4', { stdin: true });
    const session = await attach(id);
    session.stdin?.write('go\n');
    assert.deepEqual(await session.exited, { code: 4, signal: 0 });
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED');
    await remove(id);
    const { stdout } = await ended(session);
    assert.deepEqual([stdout.length, stdout.slice(-6)], [228_894, '40000\n']);
  });

  it('ends every session within a second of the VM, with `unavailable`', TIMEOUT, async () => {
    const id = await start('doomed', 'yes', { stdin: true });
    const attached = await attach(id);
    attached.stdout?.resume();
    const request = { command: ['cat'], ...all, tty: false };
    const exec = await daemon.pods.execStream(id, request, never);
    const failed = new Promise<unknown>((resolve) => exec.stdout?.once('error', resolve));
    const { pid } = daemon.pods.sandbox(pod.id).info['vm'] as { pid: number };
    process.kill(pid, 'SIGKILL');
    const killed = performance.now();
    await Promise.all([
      assert.rejects(attached.exited, { code: 'unavailable' }),
      assert.rejects(exec.exited, { code: 'unavailable' }),
    ]);
    assert.ok(isCaissonError(await failed, 'unavailable'));
    // generous: the machine may be busy
    assert.ok(performance.now() - killed < 5000, `${performance.now() - killed} ms`);
  });
});

async function readSlowly({ stdout }: ProcessSession): Promise<string> {
  let text = '';
  for await (const data of stdout ?? []) {
    text += String(data);
    await sleep(10);
  }
  return text;
}
