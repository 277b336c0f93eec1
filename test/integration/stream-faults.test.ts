import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startLocalDaemon, type LocalDaemon } from '../support/local-daemon.ts';
import * as pods from '../support/pods.ts';
import { agentFds, allStreams, inVm, never } from '../support/sessions.ts';
import { ChannelClient } from '../support/streaming/channel-client.ts';
import { connectSpdy, type SpdyClient } from '../support/streaming/spdy-client.ts';

const MIB = 1024 * 1024;
const skip = process.getuid?.() === 0 ? false : 'needs root';
const V5 = 'v5.channel.k8s.io';
const SPDY = ['v4.channel.k8s.io'];
const PORT = 81;
const CLIENTS = 1000;
const AT_ONCE = 10;
/** of the flood; the minute by CAISSON_TEST_FLOOD_S=60 */
const FLOOD_MS = 1000 * Number(process.env['CAISSON_TEST_FLOOD_S'] ?? 10);

/** Clients' sockets, the streaming server, the agent's calls, vsock, the guest: everything that a stream passes. */
describe('streams through everything', { skip }, () => {
  let daemon: LocalDaemon;
  let pod: pods.TestPod;
  let box: string;
  const runtime = () => daemon.cri.runtime;
  const execUrl = async (...cmd: string[]): Promise<string> =>
    (await runtime().Exec({ container_id: box, cmd, stdin: true, stdout: true, stderr: true })).url;
  const countIn = async (script: string): Promise<number> =>
    Number(await inVm(daemon.pods, pod.id, `${script} | $b wc -l`));

  before(async () => {
    daemon = await startLocalDaemon();
    pod = await pods.runPod(daemon, 'streams');
    box = await pods.createAndStart(pod, 'box', ['cat'], { stdin: true });
    await pods.createAndStart(pod, 'echo', ['nc', '-ll', '-p', String(PORT), '-e', 'cat']);
    await pods.sh(daemon, box, `until netstat -ltn | grep -q :${PORT}; do sleep 0.05; done`);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it(`leave nothing on either side, when ${CLIENTS} clients have come and gone`, { timeout: 900_000 }, async (t) => {
    const ways = [attachByWebSocket, forwardByWebSocket, attachBySpdy, forwardByWebSocket];
    const visit = async (i: number): Promise<void> => {
      const way = i % 25 === 0 ? execByWebSocket : ways[i % ways.length];
      await way?.(i % 3 === 0);
    };
    const round = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += AT_ONCE)
        await Promise.all(Array.from({ length: AT_ONCE }, (_, j) => visit(i + j)));
    };
    const held = async () => {
      let last = '';
      // what is being closed takes a moment, in a busy guest more
      for (let i = 0; i < 100; i++) {
        const now = `${await agentFds(daemon.pods, pod.id)} ${readdirSync('/proc/self/fd').length}`;
        if (now === last) break;
        last = now;
        await sleep(300);
      }
      setFlagsFromString('--expose-gc');
      runInNewContext('gc')();
      return {
        agentFds: await agentFds(daemon.pods, pod.id),
        // the box's own cat, and what serves nobody any more
        cats: await countIn('$b ps -o args | $b grep "^cat"'),
        execCgroups: await countIn('$b find /sys/fs/cgroup/caisson -name "exec-*"'),
        fds: readdirSync('/proc/self/fd').length,
        listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
        servers: process.getActiveResourcesInfo().filter((name) => name.includes('ServerWrap')).length,
        heap: process.memoryUsage().heapUsed,
      };
    };
    await round(100);
    const earlier = await held();
    await round(CLIENTS);
    const now = await held();
    t.diagnostic(JSON.stringify({ earlier, now }));
    assert.ok(now.agentFds > 10 && now.cats > 0, 'what is looked at is not the agent, or not its VM');
    const { heap, ...counts } = now;
    for (const [what, has] of Object.entries(counts)) {
      const had = earlier[what as keyof typeof counts];
      assert.ok(has <= had + 2, `${what}: ${had} before, ${has} after`);
    }
    // one client alone that were not let go would be tens of KiB
    assert.ok(heap - earlier.heap < 8 * MIB, `${(heap - earlier.heap) / MIB} MiB more`);
  });

  it('carry a flood of 128-byte writes both ways, and the guest answers meanwhile', { timeout: 300_000 }, async (t) => {
    await using source = await daemon.pods.execStream(
      box,
      { command: ['dd', 'bs=128', 'if=/dev/zero'], ...allStreams, stdin: false },
      never,
    );
    await using echo = await daemon.pods.execStream(box, { command: ['dd', 'bs=128'], ...allStreams }, never);
    let received = 0;
    let wrong = 0;
    let back = 0;
    source.stdout?.on('data', (data: Buffer) => (received += data.length));
    echo.stdout?.on('data', (data: Buffer) => {
      for (const byte of data) if (byte !== (back++ >> 7) % 251) wrong++;
    });
    const until = performance.now() + FLOOD_MS;
    let sent = 0;
    let answers = 0;
    const asking = (async () => {
      while (performance.now() < until) {
        assert.equal((await pods.exec(daemon, box, ['true'])).exitCode, 0);
        answers++;
      }
    })();
    while (performance.now() < until) {
      if (echo.stdin?.write(Buffer.alloc(128, sent++ % 251)) === false) await once(echo.stdin, 'drain');
    }
    await asking;
    echo.stdin?.end();
    assert.equal((await echo.exited).code, 0);
    t.diagnostic(JSON.stringify({ received, sent, back, answers }));
    assert.deepEqual([back, wrong], [sent * 128, 0]);
    assert.ok(received > 0 && answers > 0);
  });

  it('tell their clients at once that the VM has died', { timeout: 240_000 }, async (t) => {
    const webSocket = await ChannelClient.connect(await execUrl('sh', '-c', 'echo ready; exec sleep 1000'), V5);
    await webSocket.until(() => webSocket.of(1) === 'ready\n');
    const { spdy, ids } = await openSpdy(await execUrl('sh', '-c', 'echo ready; exec sleep 1000'));
    await spdy.until(() => spdy.sofar(ids.stdout ?? 0) === 'ready\n');
    const forward = await ChannelClient.connect(await forwardUrl(), SPDY[0] ?? '');
    forward.send(0, 'x');
    await forward.until(() => forward.of(0).endsWith('x'));
    const { pid } = daemon.pods.sandbox(pod.id).info['vm'] as { pid: number };
    process.kill(pid, 'SIGKILL');
    const killed = performance.now();
    const [, status] = await Promise.all([webSocket.closed, spdy.whole(ids.error ?? 0), forward.closed]);
    const ms = performance.now() - killed;
    t.diagnostic(`${Math.round(ms)} ms`);
    for (const text of [webSocket.of(3), status]) assert.match(text, /"status":"Failure","message":"[^"]*(VM|agent)/);
    assert.match(forward.of(1), /error forwarding port 81/);
    // a second on a machine that has nothing else to do
    assert.ok(ms < 5000, `${ms} ms`);
    spdy.socket.destroy();
  });

  async function forwardUrl(): Promise<string> {
    const { url } = await runtime().PortForward({ pod_sandbox_id: pod.id, port: [PORT] });
    return url;
  }

  async function openSpdy(url: string): Promise<{ spdy: SpdyClient; ids: Record<string, number> }> {
    const spdy = await connectSpdy(url, SPDY);
    const ids: Record<string, number> = {};
    for (const streamtype of ['error', 'stdin', 'stdout', 'stderr']) ids[streamtype] = await spdy.open({ streamtype });
    return { spdy, ids };
  }

  async function attachByWebSocket(rudely: boolean): Promise<void> {
    const { url } = await runtime().Attach({ container_id: box, stdin: true, stdout: true, stderr: true });
    await leave(await ChannelClient.connect(url, V5), rudely);
  }

  async function attachBySpdy(): Promise<void> {
    const { url } = await runtime().Attach({ container_id: box, stdin: true, stdout: true, stderr: true });
    const { spdy } = await openSpdy(url);
    spdy.socket.destroy();
    await spdy.closed();
  }

  async function forwardByWebSocket(rudely: boolean): Promise<void> {
    const client = await ChannelClient.connect(await forwardUrl(), SPDY[0] ?? '');
    client.send(0, 'x');
    // two bytes of it are the port
    if (!rudely) await client.until(() => client.of(0).length >= 3 || client.socket.readyState > 1);
    await leave(client, rudely);
  }

  async function execByWebSocket(rudely: boolean): Promise<void> {
    const client = await ChannelClient.connect(await execUrl('cat'), V5);
    if (rudely) return await leave(client, rudely);
    client.end(0);
    await client.closed;
  }

  async function leave(client: ChannelClient, rudely: boolean): Promise<void> {
    if (rudely) client.socket.terminate();
    else client.socket.close();
    await client.closed;
  }
});
