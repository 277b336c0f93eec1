import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { status } from '@grpc/grpc-js';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { countResources, settledResources } from '../support/resources.ts';

const AWKWARD = {
  plain: 'a',
  commas: 'a,b=c,,d',
  quotes: `'single' "double" \\`,
  lines: 'one\ntwo\n',
  empty: '',
  umlaut: 'Käse ☃',
};
const skip = process.getuid?.() === 0 ? false : 'needs root';

/** One daemon and one pod for all of it, because a boot is what takes time. */
describe('the life of a pod and its containers', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let shell: string;
  const runtime = () => daemon.cri.runtime;
  const sh = (script: string) => pods.sh(daemon, shell, script);
  before(async () => {
    daemon = await startTestDaemon();
    pod = await pods.runPod(daemon, 'web', {
      labels: AWKWARD,
      annotations: AWKWARD,
      hostname: 'web-0',
      dns_config: { servers: ['10.96.0.10', 'fd00::10'], searches: ['shop.svc', 'svc'], options: ['ndots:5'] },
      linux: { sysctls: { 'net.ipv4.ip_local_port_range': '40000 50000', 'kernel.shm_rmid_forced': '1' } },
    });
    shell = await pods.createAndStart(pod, 'shell', ['sleep', '100000']);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('shows the sandbox as it was asked for', async () => {
    const { status: shown, info } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id, verbose: true });
    assert.equal(shown?.state, 'SANDBOX_READY');
    assert.deepEqual(shown.metadata, pod.config.metadata);
    assert.deepEqual(shown.labels, AWKWARD);
    assert.deepEqual(shown.annotations, AWKWARD);
    assert.ok(shown.network?.ip.startsWith(`${daemon.cni.prefix4}.`));
    const age = Date.now() - Number(BigInt(shown.created_at) / 1_000_000n);
    assert.ok(age > 0 && age < 600_000, `created ${age} ms ago`);
    assert.doesNotThrow(() => JSON.parse(info['info'] ?? ''));
    const { items } = await runtime().ListPodSandbox();
    assert.deepEqual(
      items.map(({ id, labels, annotations }) => [id, labels, annotations]),
      [[pod.id, AWKWARD, AWKWARD]],
    );
  });

  it('finds sandboxes by id, state and labels', async () => {
    const found = async (filter: object) => (await runtime().ListPodSandbox({ filter })).items.length;
    assert.equal(await found({ id: pod.id }), 1);
    assert.equal(await found({ id: pod.id.slice(0, 12) }), 1);
    assert.equal(await found({ id: 'f'.repeat(64) }), 0);
    assert.equal(await found({ state: { state: 'SANDBOX_READY' } }), 1);
    assert.equal(await found({ state: { state: 'SANDBOX_NOTREADY' } }), 0);
    assert.equal(await found({ label_selector: { lines: AWKWARD.lines, plain: 'a' } }), 1);
    assert.equal(await found({ label_selector: { lines: 'one' } }), 0);
  });

  it('refuses a second pod of the same name and attempt', async () => {
    const held = await countResources(daemon);
    const again = runtime().RunPodSandbox({ config: pod.config });
    await assert.rejects(again, { code: status.ALREADY_EXISTS, details: /web/ });
    assert.deepEqual(await settledResources(daemon, held), held);
  });

  it('takes a container through its life', async () => {
    const config = { labels: AWKWARD, annotations: AWKWARD, metadata: { name: 'life', attempt: 3 } };
    const script = 'trap "echo bye; exit 7" TERM; echo out; echo err >&2; while :; do sleep 0.1; done';
    const id = await pods.create(pod, 'life', ['sh', '-c', script], config);
    const created = await pods.containerStatus(daemon, id);
    assert.equal(created.state, 'CONTAINER_CREATED');
    assert.deepEqual(created.metadata, { name: 'life', attempt: 3 });
    assert.deepEqual([created.labels, created.annotations], [AWKWARD, AWKWARD]);
    assert.equal(created.log_path, join(pod.config.log_directory ?? '', 'life.log'));
    assert.deepEqual([created.started_at, created.finished_at], ['0', '0']);
    assert.match(created.image_id, /^sha256:[0-9a-f]{64}$/);

    await runtime().StartContainer({ container_id: id });
    assert.equal((await pods.containerStatus(daemon, id)).state, 'CONTAINER_RUNNING');
    const twice = runtime().StartContainer({ container_id: id });
    await assert.rejects(twice, { code: status.FAILED_PRECONDITION, details: /running/ });

    await runtime().StopContainer({ container_id: id, timeout: '10' });
    const exited = await pods.containerStatus(daemon, id);
    assert.deepEqual([exited.state, exited.exit_code, exited.reason], ['CONTAINER_EXITED', 7, 'Error']);
    assert.ok(BigInt(exited.created_at) <= BigInt(exited.started_at));
    assert.ok(BigInt(exited.started_at) <= BigInt(exited.finished_at));
    const log = await pods.readLog(pod, 'life.log');
    assert.deepEqual(log.map(({ stream, text }) => `${stream} ${text}`).toSorted(), [
      'stderr err',
      'stdout bye',
      'stdout out',
    ]);

    await runtime().RemoveContainer({ container_id: id });
    await assert.rejects(runtime().ContainerStatus({ container_id: id }), {
      code: status.NOT_FOUND,
      details: new RegExp(id),
    });
  });

  it('finds containers by id, sandbox, state and labels', async () => {
    const labels = { tier: 'x,y="z"\n' };
    const made = await pods.create(pod, 'listed', ['true'], { labels });
    const found = async (filter: object) => (await runtime().ListContainers({ filter })).containers.map(({ id }) => id);
    assert.deepEqual(await found({ id: made }), [made]);
    assert.deepEqual(await found({ label_selector: labels }), [made]);
    assert.deepEqual(await found({ state: { state: 'CONTAINER_CREATED' }, pod_sandbox_id: pod.id }), [made]);
    assert.deepEqual(await found({ state: { state: 'CONTAINER_RUNNING' } }), [shell]);
    assert.deepEqual(await found({ pod_sandbox_id: 'f'.repeat(64) }), []);
    await runtime().RemoveContainer({ container_id: made });
    assert.deepEqual(await found({ id: made }), []);
  });

  it('refuses a second container of the same name and attempt, and takes the next attempt', async () => {
    const metadata = { name: 'shell', attempt: 0 };
    const again = pods.create(pod, 'shell', ['true'], { metadata });
    await assert.rejects(again, { code: status.ALREADY_EXISTS, details: /shell/ });
    const next = await pods.create(pod, 'shell', ['true'], { metadata: { name: 'shell', attempt: 1 } });
    await runtime().RemoveContainer({ container_id: next });
    const reused = await pods.create(pod, 'shell', ['true'], { metadata: { name: 'shell', attempt: 1 } });
    await runtime().RemoveContainer({ container_id: reused });
  });

  it('stops and removes what is not there, and what is, twice', async () => {
    const unknown = 'f'.repeat(64);
    await runtime().StopContainer({ container_id: unknown, timeout: '1' });
    await runtime().RemoveContainer({ container_id: unknown });
    await runtime().StopPodSandbox({ pod_sandbox_id: unknown });
    await runtime().RemovePodSandbox({ pod_sandbox_id: unknown });
    const id = await pods.createAndStart(pod, 'twice', ['sleep', '1000']);
    for (let i = 0; i < 2; i++) await runtime().StopContainer({ container_id: id, timeout: '0' });
    const { exit_code, reason } = await pods.containerStatus(daemon, id);
    assert.deepEqual([exit_code, reason], [137, 'Error']);
    for (let i = 0; i < 2; i++) await runtime().RemoveContainer({ container_id: id });
  });

  it('removes a container that runs', async () => {
    const id = await pods.createAndStart(pod, 'forced', ['sleep', '1000']);
    await runtime().RemoveContainer({ container_id: id });
    assert.equal((await sh('ps | grep -c "[s]leep 1000$"')).stdout.trim(), '0');
  });

  it('keeps quick exit codes', async () => {
    const codes = [0, 1, 42, 255];
    const ids = await Promise.all(codes.map((code) => pods.create(pod, `code-${code}`, ['sh', '-c', `exit ${code}`])));
    await Promise.all(ids.map((id) => runtime().StartContainer({ container_id: id })));
    const ends = await Promise.all(ids.map((id) => pods.waitForState(daemon, id, 'CONTAINER_EXITED')));
    assert.deepEqual(
      ends.map(({ exit_code, reason }) => [exit_code, reason]),
      codes.map((code) => [code, code === 0 ? 'Completed' : 'Error']),
    );
  });

  it("joins a pod's containers by localhost and parts them by their files", async () => {
    const script = 'echo hello from server > /index.html; echo mine > /tmp/file; exec httpd -f -p 8080 -h /';
    const server = await pods.createAndStart(pod, 'server', ['sh', '-c', script]);
    const fetched = await sh(
      'for i in 1 2 3 4 5 6 7 8 9 10; do wget -qO- http://127.0.0.1:8080/index.html && exit; sleep 0.3; done; exit 1',
    );
    assert.equal(fetched.stdout, 'hello from server\n');
    assert.equal((await sh('ls /tmp /index.html')).exitCode, 1);
    assert.equal((await sh('ls /tmp')).stdout, '');
    await sh('echo yours > /tmp/file');
    assert.equal((await pods.sh(daemon, server, 'cat /tmp/file')).stdout, 'mine\n');

    const { status: shown } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id });
    const fromHost = await fetch(`http://${shown?.network?.ip}:8080/index.html`, {
      signal: AbortSignal.timeout(10_000),
    });
    assert.equal(await fromHost.text(), 'hello from server\n');
    await runtime().RemoveContainer({ container_id: server });
  });

  it("reaches the host's gateway from the pod", async () => {
    const gateway = `${daemon.cni.prefix4}.1`;
    const server = createServer((request, response) =>
      response.end(`host saw ${request.socket.remoteAddress}\n`),
    ).listen(0, gateway);
    await once(server, 'listening');
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    const { status: shown } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id });
    const answer = await sh(`wget -qO- http://${gateway}:${address.port}/`);
    assert.equal(answer.stdout, `host saw ${shown?.network?.ip}\n`, answer.stderr);
    const ping = await sh(`ping -c 1 -W 5 ${gateway}`);
    assert.equal(ping.exitCode, 0, ping.stdout + ping.stderr);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('gives the pod its host name, resolv.conf, hosts and sysctls', async () => {
    assert.equal((await sh('hostname; echo $HOSTNAME')).stdout, 'web-0\nweb-0\n');
    const resolv = 'search shop.svc svc\nnameserver 10.96.0.10\nnameserver fd00::10\noptions ndots:5\n';
    assert.equal((await sh('cat /etc/resolv.conf')).stdout, resolv);
    assert.match((await sh('cat /etc/hosts')).stdout, new RegExp(`^${daemon.cni.prefix4}\\.\\d+\\tweb-0$`, 'm'));
    assert.equal((await sh('cat /proc/sys/net/ipv4/ip_local_port_range')).stdout, '40000\t50000\n');
    assert.equal((await sh('cat /proc/sys/kernel/shm_rmid_forced')).stdout, '1\n');
  });

  it('leaves nothing when the pod is stopped and removed', async () => {
    const left = await pods.create(pod, 'never-started', ['true']);
    for (let i = 0; i < 2; i++) await runtime().StopPodSandbox({ pod_sandbox_id: pod.id });
    const { status: stopped } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id });
    assert.equal(stopped?.state, 'SANDBOX_NOTREADY');
    const { state, exit_code } = await pods.containerStatus(daemon, shell);
    assert.deepEqual([state, exit_code], ['CONTAINER_EXITED', 137]);
    await assert.rejects(pods.sh(daemon, shell, 'true'), { code: status.FAILED_PRECONDITION });
    await assert.rejects(pods.create(pod, 'late', ['true']), {
      code: status.FAILED_PRECONDITION,
      details: /not ready/,
    });
    await assert.rejects(runtime().StartContainer({ container_id: left }), { code: status.FAILED_PRECONDITION });
    for (let i = 0; i < 2; i++) await runtime().RemovePodSandbox({ pod_sandbox_id: pod.id });
    assert.deepEqual((await runtime().ListContainers()).containers, []);
    assert.deepEqual((await runtime().ListPodSandbox()).items, []);
    const resources = await settledResources(daemon, { ...(await countResources(daemon)), qemu: 0, netns: 0 });
    assert.ok(
      Object.values(resources).every((count) => count === 0),
      JSON.stringify(resources),
    );
  });
});
