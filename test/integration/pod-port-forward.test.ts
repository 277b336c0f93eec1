import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { buffer, text } from 'node:stream/consumers';
import { startLocalDaemon, type LocalDaemon } from '../support/local-daemon.ts';
import * as pods from '../support/pods.ts';
import { never } from '../support/sessions.ts';

const MIB = 1024 * 1024;
const skip = process.getuid?.() === 0 ? false : 'needs root';
const TIMEOUT = { timeout: 240_000 };

describe('port-forward', { skip }, () => {
  let daemon: LocalDaemon;
  let pod: pods.TestPod;
  let shell: string;
  const forward = (port: number) => daemon.pods.portForward(pod.id, port, never);
  const serve = async (port: number, script: string): Promise<void> => {
    await pods.createAndStart(pod, `serve-${port}`, ['sh', '-c', script]);
    await pods.sh(daemon, shell, `until netstat -ltn | grep -q :${port}; do sleep 0.05; done`);
  };

  before(async () => {
    daemon = await startLocalDaemon();
    pod = await pods.runPod(daemon, 'forward');
    shell = await pods.createAndStart(pod, 'shell', ['sleep', '100000']);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('carries bytes both ways, and the client may end first', TIMEOUT, async () => {
    await serve(81, 'nc -ll -p 81 -e sha256sum');
    const data = randomBytes(4 * MIB);
    const connection = await forward(81);
    connection.end(data);
    const sum = createHash('sha256').update(data).digest('hex');
    assert.equal((await text(connection)).split(' ')[0], sum);
  });

  it('lets the pod end first', TIMEOUT, async () => {
    await serve(82, 'echo bye | nc -l -p 82 > /tmp/got; wc -c < /tmp/got > /tmp/count; sleep 1000');
    const connection = await forward(82);
    assert.equal(await text(connection), 'bye\n');
    assert.equal(connection.destroyed, false);
    connection.end(Buffer.alloc(3 * MIB));
    await once(connection, 'close');
    const server = (await daemon.cri.runtime.ListContainers({})).containers.find(
      (c) => c.metadata?.name === 'serve-82',
    );
    const { stdout } = await pods.sh(
      daemon,
      server?.id ?? '',
      'until test -s /tmp/count; do sleep 0.05; done; cat /tmp/count',
    );
    assert.equal(stdout, `${3 * MIB}\n`);
  });

  it('carries 16 MiB from the pod, no faster than it is read', TIMEOUT, async () => {
    await serve(83, 'nc -ll -p 83 -e head -c 16777216 /dev/zero');
    const connection = await forward(83);
    const { external } = process.memoryUsage();
    await pods.sh(daemon, shell, 'sleep 0.3');
    assert.ok(process.memoryUsage().external - external < 8 * MIB);
    assert.equal((await buffer(connection)).length, 16 * MIB);
    connection.end();
  });

  it('falls back to ::1', TIMEOUT, async () => {
    await serve(84, 'echo six > /tmp/six; exec httpd -f -p [::1]:84 -h /tmp');
    const connection = await forward(84);
    connection.write('GET /six HTTP/1.0\r\n\r\n');
    assert.match(await text(connection), /^HTTP\/1\.\d 200 [^]*six\n$/);
    connection.end();
  });

  it('takes many connections at once', TIMEOUT, async () => {
    await serve(85, 'nc -ll -p 85 -e cat');
    const numbers = Array.from({ length: 20 }, (_, index) => `connection ${index}`);
    const echoes = numbers.map(async (word) => {
      const connection = await forward(85);
      connection.end(word);
      return await text(connection);
    });
    assert.deepEqual(await Promise.all(echoes), numbers);
  });

  it('ends the connection in the pod when the client breaks it off', TIMEOUT, async () => {
    await serve(86, 'nc -l -p 86 -e sh -c "cat; echo over > /tmp/over"; sleep 1000');
    const connection = await forward(86);
    connection.write('x');
    await once(connection, 'data');
    connection.destroy();
    const server = (await daemon.cri.runtime.ListContainers({})).containers.find(
      (c) => c.metadata?.name === 'serve-86',
    );
    const { exitCode } = await pods.sh(daemon, server?.id ?? '', 'until test -s /tmp/over; do sleep 0.05; done');
    assert.equal(exitCode, 0);
  });

  it('refuses what cannot be', TIMEOUT, async () => {
    await assert.rejects(forward(1), { code: 'unavailable', message: /port 1 .*ECONNREFUSED/ });
    for (const port of [0, -1, 65_536, 1.5]) await assert.rejects(forward(port), { code: 'invalid_argument' });
    await assert.rejects(daemon.pods.portForward('f'.repeat(64), 80, never), { code: 'not_found' });
    await assert.rejects(daemon.pods.portForward(pod.id, 80, AbortSignal.abort()), { code: 'cancelled' });
    await daemon.pods.stopSandbox(pod.id);
    await assert.rejects(forward(85), { code: 'failed_precondition' });
    assert.throws(() => daemon.pods.forwardable(pod.id), { code: 'failed_precondition' });
  });
});
