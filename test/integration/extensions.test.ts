import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { runCli } from '../support/cli.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { netnsOf, processesOf } from '../support/resources.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const TIMEOUT = { timeout: 240_000 };

describe('what CRI lacks', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  const runtime = () => daemon.cri.runtime;
  const extensions = () => daemon.cri.extensions;
  const id = () => ({ pod_sandbox_id: pod.id });
  const caisson = (...words: string[]) => runCli(['--config', daemon.configFile, ...words]);
  const addresses = async (): Promise<string[]> => {
    const { status: sandbox } = await runtime().PodSandboxStatus(id());
    const { ip = '', additional_ips = [] } = sandbox?.network ?? {};
    return [ip, ...additional_ips.map((other) => other.ip)];
  };
  const state = async () => (await runtime().PodSandboxStatus(id())).status?.state;
  const qemu = async (): Promise<number> => {
    const found = (await processesOf(daemon)).find(({ name }) => name.startsWith('qemu'));
    assert.ok(found);
    return found.pid;
  };
  const reserved = async (): Promise<string[]> =>
    (await readdir(daemon.cni.reservations)).filter((name) => /^\d+\.|:/.test(name)).toSorted();
  /** What the container itself sees. */
  const inside = async (container: string): Promise<string> =>
    (await pods.sh(daemon, container, 'ip -o address show eth0')).stdout;

  before(async () => {
    daemon = await startTestDaemon({ cni: { dualStack: true } });
    pod = await pods.runPod(daemon, 'phoenix', { hostname: 'ashes' });
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('starts a stopped pod again, under its id and with its addresses', TIMEOUT, async () => {
    const old = await pods.createAndStart(pod, 'old', ['sleep', '100000']);
    const had = await addresses();
    assert.equal(had.length, 2);
    await extensions().StartPodSandbox(id()); // it is ready: nothing happens
    assert.equal((await pods.containerStatus(daemon, old)).state, 'CONTAINER_RUNNING');
    await runtime().StopPodSandbox(id());
    assert.deepEqual(await reserved(), []);
    const events = collectEvents();
    const { code, stderr } = await caisson('start', 'phoenix');
    assert.deepEqual([code, stderr], [0, `default/phoenix runs, with ${had[0]}\n`]);
    assert.deepEqual(await addresses(), had);
    assert.equal((await pods.containerStatus(daemon, old)).state, 'CONTAINER_EXITED');
    await runtime().RemoveContainer({ container_id: old });
    const fresh = await pods.createAndStart(pod, 'old', ['sleep', '100000']);
    const seen = await inside(fresh);
    for (const address of had) assert.ok(seen.includes(` ${address}/`), `${address} in ${seen}`);
    assert.equal((await pods.exec(daemon, fresh, ['hostname'])).stdout, 'ashes\n');
    assert.deepEqual(await events(pod.id), ['CONTAINER_STARTED_EVENT']);
  });

  it('starts a pod again whose VM has died, in the network that it still holds', TIMEOUT, async () => {
    const had = await addresses();
    const netns = await netnsOf(daemon);
    process.kill(await qemu(), 'SIGKILL');
    while ((await state()) === 'SANDBOX_READY') await sleep(50);
    await extensions().StartPodSandbox(id());
    assert.equal(await state(), 'SANDBOX_READY');
    assert.deepEqual([await addresses(), await netnsOf(daemon)], [had, netns]);
    const container = await pods.createAndStart(pod, 'after', ['sleep', '100000']);
    // the node reaches it, so that its wires are joined
    await pods.createAndStart(pod, 'web', ['sh', '-c', 'echo up > /index.html; exec httpd -f -p 8080 -h /']);
    await pods.sh(daemon, container, 'until netstat -ltn | grep -q :8080; do sleep 0.05; done');
    assert.equal(await (await fetch(`http://${had[0]}:8080/`)).text(), 'up\n');
  });

  it('fails, and leaves it stopped, when an address has been given away', TIMEOUT, async () => {
    const [address = ''] = await addresses();
    await runtime().StopPodSandbox(id());
    const reservation = join(daemon.cni.reservations, address);
    await writeFile(reservation, 'another pod');
    await assert.rejects(extensions().StartPodSandbox(id()), (error: { code: number; details: string }) => {
      assert.equal(error.code, status.UNAVAILABLE);
      assert.match(error.details, /^pod default\/phoenix: .*requested IP address/);
      return true;
    });
    assert.equal(await state(), 'SANDBOX_NOTREADY');
    assert.deepEqual([await netnsOf(daemon), await processesOf(daemon)], [[], []]);
    await rm(reservation);
    await extensions().StartPodSandbox(id());
    assert.equal((await addresses())[0], address);
  });

  it('freezes a container: nothing in it runs, and it can be stopped', TIMEOUT, async () => {
    const count = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done';
    const counter = await pods.createAndStart(pod, 'counter', ['sh', '-c', count]);
    const other = await pods.createAndStart(pod, 'other', ['sleep', '100000']);
    const lines = async () => (await pods.readLog(pod, 'counter.log')).length;
    while ((await lines()) === 0) await sleep(50);
    assert.equal((await caisson('pause', 'phoenix/counter')).code, 0);
    await extensions().PauseContainer({ container_id: counter }); // again
    await sleep(500); // what had been printed before
    const frozenAt = await lines();
    const refused = { code: status.FAILED_PRECONDITION, details: /is paused \(caisson unpause \w{13}\)/ };
    await assert.rejects(pods.exec(daemon, counter, ['true']), refused);
    await assert.rejects(runtime().Exec({ container_id: counter, cmd: ['true'], stdout: true }), refused);
    await assert.rejects(runtime().Attach({ container_id: counter, stdout: true }), refused);
    assert.equal((await pods.exec(daemon, other, ['true'])).exitCode, 0);
    await daemon.restart();
    await assert.rejects(pods.exec(daemon, counter, ['true']), refused);
    assert.match((await caisson('ps')).stdout, /counter +\w{13} +paused/);
    assert.equal((await pods.containerStatus(daemon, counter)).state, 'CONTAINER_RUNNING');
    assert.equal(await lines(), frozenAt);
    assert.equal((await caisson('unpause', 'phoenix/counter')).code, 0);
    assert.equal((await pods.exec(daemon, counter, ['true'])).exitCode, 0);
    while ((await lines()) <= frozenAt) await sleep(50);
    await extensions().PauseContainer({ container_id: counter });
    await runtime().StopContainer({ container_id: counter, timeout: '5' });
    assert.equal((await pods.containerStatus(daemon, counter)).state, 'CONTAINER_EXITED');
    const gone = { code: status.FAILED_PRECONDITION, details: /is exited, not running/ };
    await assert.rejects(extensions().PauseContainer({ container_id: counter }), gone);
    await runtime().RemoveContainer({ container_id: counter });
    // removed while it is frozen
    const again = await pods.createAndStart(pod, 'counter', ['sh', '-c', count]);
    await extensions().PauseContainer({ container_id: again });
    await runtime().RemoveContainer({ container_id: again });
  });

  it(
    'lets a whole VM stand still, also over a restart of the daemon, and sets its clock afterwards',
    TIMEOUT,
    async () => {
      const [, container = ''] = await running();
      assert.equal((await caisson('pause', '--pod', 'phoenix')).code, 0);
      await extensions().PausePod(id());
      const answersAtOnce = async (): Promise<void> => {
        const started = performance.now();
        assert.equal(await state(), 'SANDBOX_READY');
        await Promise.all([
          runtime().ListContainers(),
          runtime().ListPodSandboxStats(),
          runtime().PodSandboxStats(id()),
        ]);
        const refused = {
          code: status.FAILED_PRECONDITION,
          details: /is paused, so its guest cannot be asked \(caisson resume/,
        };
        await assert.rejects(pods.exec(daemon, container, ['true']), refused);
        await assert.rejects(runtime().StopContainer({ container_id: container }), refused);
        await assert.rejects(runtime().RemoveContainer({ container_id: container }), refused);
        await assert.rejects(extensions().PauseContainer({ container_id: container }), refused);
        await assert.rejects(pods.create(pod, 'never', ['true']), refused);
        await assert.rejects(runtime().PortForward({ ...id(), port: [80] }), refused);
        // far from the seconds that anything which asks the guest takes to give up
        assert.ok(performance.now() - started < 5000);
      };
      await answersAtOnce();
      await daemon.restart();
      await answersAtOnce();
      assert.match((await caisson('ps')).stdout, /\w{13} +paused/);
      await sleep(3000);
      assert.equal((await caisson('resume', 'phoenix')).code, 0);
      const { stdout } = await pods.exec(daemon, container, ['date', '+%s']);
      assert.ok(Math.abs(Number(stdout) - Date.now() / 1000) < 3, stdout);
      await extensions().ResumePod(id());
      // its end is noticed, though its daemon has not known it before
      await runtime().StopContainer({ container_id: container });
      assert.equal((await pods.containerStatus(daemon, container)).state, 'CONTAINER_EXITED');
    },
  );

  it('stops a pod that stands still', TIMEOUT, async () => {
    await extensions().PausePod(id());
    await runtime().StopPodSandbox(id());
    assert.equal(await state(), 'SANDBOX_NOTREADY');
    const stopped = { code: status.FAILED_PRECONDITION, details: /is not ready/ };
    await assert.rejects(extensions().PausePod(id()), stopped);
    await assert.rejects(extensions().ResumePod(id()), stopped);
  });

  it('refuses what is not there, and says why there are no checkpoints', TIMEOUT, async () => {
    const unknown = { code: status.NOT_FOUND };
    await assert.rejects(extensions().StartPodSandbox({ pod_sandbox_id: 'f00' }), unknown);
    await assert.rejects(extensions().PauseContainer({ container_id: 'f00' }), unknown);
    await assert.rejects(extensions().PausePod({}), {
      code: status.INVALID_ARGUMENT,
      details: /pod_sandbox_id is empty/,
    });
    await assert.rejects(runtime().CheckpointContainer({ container_id: 'x', location: '/x' }), {
      code: status.UNIMPLEMENTED,
      details: /a container cannot be saved apart from its virtual machine/,
    });
  });

  /** Ids of those that run. */
  async function running(): Promise<string[]> {
    const { containers } = await runtime().ListContainers({ filter: { state: { state: 'CONTAINER_RUNNING' } } });
    const own = containers.filter(({ pod_sandbox_id }) => pod_sandbox_id === pod.id);
    return ['', ...own.map((one) => one.id)];
  }

  /** Reads on in the background; the result has the types of the events about `about` so far. */
  function collectEvents(): (about: string) => Promise<string[]> {
    const seen: { id: string; type: string }[] = [];
    const abort = new AbortController();
    const reading = (async () => {
      for await (const event of runtime().GetContainerEvents({}, { signal: abort.signal }))
        seen.push({ id: event.container_id, type: event.container_event_type });
    })().catch(() => undefined);
    return async (about) => {
      abort.abort();
      await reading;
      return seen.filter((event) => event.id === about).map(({ type }) => type);
    };
  }
});
