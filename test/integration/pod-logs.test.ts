import assert from 'node:assert/strict';
import { rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const PART = 16 * 1024;
const skip = process.getuid?.() === 0 ? false : 'needs root';

describe("containers' logs", { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  /** Runs a script to its end; returns what it has logged. */
  const logOf = async (name: string, script: string) => {
    const id = await pods.createAndStart(pod, name, ['sh', '-c', script]);
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED', 60_000);
    await daemon.cri.runtime.RemoveContainer({ container_id: id });
    return pods.readLog(pod, `${name}.log`);
  };

  before(async () => {
    daemon = await startTestDaemon();
    pod = await pods.runPod(daemon, 'logs');
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('cuts long lines in parts of 16 KiB', async () => {
    const long = `head -c ${PART * 2 + 100} /dev/zero | tr '\\0' x; echo`;
    const exact = `head -c ${PART} /dev/zero | tr '\\0' y; echo`;
    const lines = await logOf('parts', `${long}; ${exact}; echo short`);
    const shape = lines.map(({ tag, text }) => [tag, text.length, text[0]]);
    assert.deepEqual(shape, [
      ['P', PART, 'x'],
      ['P', PART, 'x'],
      ['F', 100, 'x'],
      ['F', PART, 'y'],
      ['F', 5, 's'],
    ]);
  });

  it('keeps both streams, each in order', async () => {
    const lines = await logOf('streams', 'for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done');
    const digits = (letter: string) => Array.from({ length: 9 }, (_, i) => `${letter}${i + 1}\n`).join('');
    assert.equal(pods.textOf(lines, 'stdout'), digits('o'));
    assert.equal(pods.textOf(lines, 'stderr'), digits('e'));
    assert.deepEqual(
      lines.map(({ time }) => time),
      lines.map(({ time }) => time).toSorted(),
    );
  });

  it('loses none of 20000 quick lines', { timeout: 90_000 }, async () => {
    const lines = await logOf('flood', 'seq 1 20000; seq 1 20000 >&2');
    const expected = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('');
    assert.ok(pods.textOf(lines, 'stdout') === expected);
    assert.ok(pods.textOf(lines, 'stderr') === expected);
  });

  it('keeps a last line without its newline', async () => {
    const lines = await logOf('unended', 'echo first; printf last');
    assert.deepEqual(
      lines.map(({ tag, text }) => [tag, text]),
      [
        ['F', 'first'],
        ['P', 'last'],
      ],
    );
  });

  it('keeps a prompt that waits, while the other stream goes on', async () => {
    const id = await pods.createAndStart(pod, 'prompt', ['sh', '-c', 'printf "name? "; seq 1 100000 >&2; echo done']);
    await pods.waitForState(daemon, id, 'CONTAINER_EXITED', 60_000);
    const lines = await pods.readLog(pod, 'prompt.log');
    assert.equal(pods.textOf(lines, 'stdout'), 'name? done\n');
    assert.equal(pods.textOf(lines, 'stderr').trimEnd().split('\n').length, 100_000);
    await daemon.cri.runtime.RemoveContainer({ container_id: id });
  });

  it('loses nothing of containers that end right after their last word', async () => {
    for (let i = 0; i < 10; i++) {
      const lines = await logOf(`quick-${i}`, `seq 1 500; echo err >&2; echo last ${i}`);
      assert.equal(lines.length, 502);
      assert.equal(pods.textOf(lines).trimEnd().split('\n').at(-1), `last ${i}`);
    }
  });

  it('goes on in a new file after a rotation', async () => {
    const { runtime } = daemon.cri;
    const script = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done';
    const id = await pods.createAndStart(pod, 'rotated', ['sh', '-c', script]);
    const path = join(pod.config.log_directory ?? '', 'rotated.log');
    const names = ['rotated.log.1', 'rotated.log.2'];
    for (const name of names) {
      while ((await pods.readLog(pod, 'rotated.log')).length < 10) await sleep(50);
      await rename(path, join(pod.config.log_directory ?? '', name));
      await runtime.ReopenContainerLog({ container_id: id });
    }
    assert.equal((await stat(path)).mode & 0o777, 0o640);
    while ((await pods.readLog(pod, 'rotated.log')).length < 10) await sleep(50);
    await runtime.StopContainer({ container_id: id, timeout: '0' });
    const files = await Promise.all([...names, 'rotated.log'].map((name) => pods.readLog(pod, name)));
    const numbers = files.flat().map(({ text }) => Number(text));
    assert.deepEqual(
      numbers,
      Array.from(numbers, (_, index) => index + 1),
    );

    await assert.rejects(runtime.ReopenContainerLog({ container_id: id }), { code: status.FAILED_PRECONDITION });
    await assert.rejects(runtime.ReopenContainerLog({ container_id: 'f'.repeat(64) }), { code: status.NOT_FOUND });
    await runtime.RemoveContainer({ container_id: id });
  });

  it('runs a container without a log', async () => {
    const id = await pods.createAndStart(pod, 'silent', ['sh', '-c', 'seq 1 100000; exit 6'], { log_path: '' });
    const ended = await pods.waitForState(daemon, id, 'CONTAINER_EXITED', 60_000);
    assert.deepEqual([ended.exit_code, ended.log_path], [6, '']);
    await daemon.cri.runtime.RemoveContainer({ container_id: id });
  });
});
