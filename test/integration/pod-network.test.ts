import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const PAGE = 'from the pod\n';
const FETCH_TIMEOUT_MS = 20_000;
const DUPLICATES_TIMEOUT_MS = 20_000;

describe('the network of a pod', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let web: string;
  const hostPort = randomInt(20_000, 30_000);
  const fetchPage = async (address: string): Promise<string> =>
    (await fetch(`http://${address}/`, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) })).text();

  before(async () => {
    daemon = await startTestDaemon({ cni: { dualStack: true } });
    const port_mappings = [{ container_port: 8080, host_port: hostPort }];
    pod = await pods.runPod(daemon, 'web', { port_mappings });
    const script = `printf '${PAGE.trim()}\\n' > /index.html; exec httpd -f -p 8080 -h /`;
    web = await pods.createAndStart(pod, 'web', ['sh', '-c', script]);
    await pods.sh(daemon, web, 'until netstat -ltn | grep -q :8080; do sleep 0.05; done');
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('has an address of each family, and the node reaches both', async () => {
    const { status } = await daemon.cri.runtime.PodSandboxStatus({ pod_sandbox_id: pod.id });
    const [second] = status?.network?.additional_ips ?? [];
    assert.match(status?.network?.ip ?? '', /^\d+\.\d+\.\d+\.\d+$/);
    assert.match(second?.ip ?? '', /^[\da-f:]+$/);
    assert.equal(await fetchPage(`${status?.network?.ip}:8080`), PAGE);
    assert.equal(await fetchPage(`[${second?.ip}]:8080`), PAGE);
  });

  it('reaches the node by each family', async () => {
    await untilNodeHasAddresses(daemon.cni.bridge);
    const { stdout, exitCode } = await pods.sh(
      daemon,
      web,
      `ping -c 1 -W 10 ${daemon.cni.prefix4}.1 && ping -6 -c 1 -W 10 ${daemon.cni.prefix6}1`,
    );
    assert.equal(exitCode, 0, stdout);
  });

  it("has its host port on the node's own loopback, too", async () => {
    assert.equal(await fetchPage(`127.0.0.1:${hostPort}`), PAGE);
    assert.equal(await fetchPage(`${daemon.cni.prefix4}.1:${hostPort}`), PAGE);
  });
});

/**
 * The node looks for duplicates of an IPv6 address for some two seconds after the plugin has made its bridge, and drops
 * what comes for it meanwhile: RFC 4862, 5.4.
 */
async function untilNodeHasAddresses(bridge: string): Promise<void> {
  const tentative = async (): Promise<boolean> =>
    (await run('ip', ['-6', '-o', 'address', 'show', 'dev', bridge, 'tentative'])).stdout !== '';
  for (const deadline = Date.now() + DUPLICATES_TIMEOUT_MS; await tentative(); await sleep(50))
    assert.ok(Date.now() < deadline, `${bridge} still has tentative addresses`);
}
