import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isCaissonError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { newId } from '../../src/lib/ids.ts';
import type { Logger } from '../../src/lib/logger.ts';
import type { NetworkPort, PodNetwork, PodNetworkRequest } from '../../src/network/contracts.ts';
import { openNetwork } from '../../src/network/index.ts';
import { makeCniConfDir } from '../support/cni.ts';
import type { CniDirectory } from '../support/cni.ts';

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const TAP_UID = 6_000_001;
const skip = process.getuid?.() === 0 ? false : 'needs root';
const signal = new AbortController().signal;
const sh = async (script: string): Promise<string> => (await run('sh', ['-c', script])).stdout;

const open = async (cni: CniDirectory) => openNetwork({ config: cni.config, stateDir: cni.stateDir, log: silent });

function requestFor(sandboxId: string, fields: Partial<PodNetworkRequest> = {}): PodNetworkRequest {
  const pod = { podName: 'web', podNamespace: 'shop', podUid: 'uid', portMappings: [], tapUid: TAP_UID };
  return { sandboxId, ...pod, ...fields };
}

async function start(network: NetworkPort, request: PodNetworkRequest): Promise<PodNetwork> {
  return network.attach(request, await network.prepare(request, signal), signal);
}

/** Everything of this test's network and pods that a leak would leave on the host. */
async function traces(cni: CniDirectory, sandboxIds: readonly string[]): Promise<string[]> {
  const netns = (await readdir('/run/netns')).filter((name) => sandboxIds.some((id) => name.includes(id.slice(0, 13))));
  const ports = await readdir(`/sys/class/net/${cni.bridge}/brif`).catch(() => []);
  const reserved = (await readdir(cni.reservations).catch(() => [])).filter((name) => /^[0-9a-f]+[.:]/.test(name));
  const cached = await readdir(join(cni.stateDir, 'cni')).catch(() => []);
  const rules = (await sh('iptables-save; ip6tables-save'))
    .split('\n')
    .filter((line) => line.includes(`${cni.prefix4}.`));
  return [...netns, ...ports, ...reserved, ...cached, ...rules];
}

/** The kernel takes a netns apart in the background. */
async function assertNoTraces(cni: CniDirectory, sandboxIds: readonly string[]): Promise<void> {
  let left = await traces(cni, sandboxIds);
  for (let i = 0; i < 100 && left.length > 0; i++) {
    await sleep(30);
    left = await traces(cni, sandboxIds);
  }
  assert.deepEqual(left, []);
}

describe('pod network with the bridge plugin', { skip }, () => {
  let cni: CniDirectory;
  let network: NetworkPort & AsyncDisposable;
  before(async () => {
    cni = await makeCniConfDir();
    network = await open(cni);
  });
  after(async () => {
    await network[Symbol.asyncDispose]();
    await cni[Symbol.asyncDispose]();
  });

  it('gives the guest what the plugins made, and takes all of it away', async () => {
    assert.deepEqual(network.status(), { ready: true });
    const id = newId();
    const pod = await start(network, requestFor(id));
    const ns = `caisson-${id.slice(0, 13)}`;
    const gateway = `${cni.prefix4}.1`;
    assert.deepEqual(pod.ips, [`${cni.prefix4}.2`]);
    assert.equal(pod.netnsPath, `/run/netns/${ns}`);
    assert.deepEqual(pod.interface.addresses, [{ cidr: `${cni.prefix4}.2/24`, gateway }]);
    assert.deepEqual(pod.interface.routes, [{ destination: '0.0.0.0/0', gateway }]);
    const bridgeMac = (await sh(`cat /sys/class/net/${cni.bridge}/address`)).trim();
    assert.deepEqual(pod.interface.neighbours, [{ ip: gateway, mac: bridgeMac }]);
    assert.match(await sh(`ip -n ${ns} link show eth0`), new RegExp(pod.interface.mac));
    assert.match(
      await sh(`ip -d -n ${ns} link show tap0`),
      /,UP.*tun type tap pi off vnet_hdr on persist on user 6000001/s,
    );
    await network.check(id, signal);
    await network.teardown(id);
    await network.teardown(id);
    await assertNoTraces(cni, [id]);
    await assert.rejects(network.check(id, signal), (error) => isCaissonError(error, 'failed_precondition'));
  });

  it('carries frames both ways between host and guest, and answers nothing itself', async () => {
    const id = newId();
    const pod = await start(network, requestFor(id));
    const ip = pod.ips[0] ?? '';
    const neighbour = async (): Promise<string> => {
      const socket = connect({ host: ip, port: 9 }).on('error', () => undefined);
      await sleep(400);
      socket.destroy();
      return sh(`ip neigh show ${ip} dev ${cni.bridge}`);
    };
    assert.doesNotMatch(await neighbour(), /lladdr/, 'no guest yet, so nobody may answer ARP');
    await sh(`ip neigh flush dev ${cni.bridge}`);
    const script = join(import.meta.dirname, 'network-tap-guest.ts');
    // many hosts have /dev/net/tun for everybody, some for root alone: a device of our own, for the VM's user
    const device = join(cni.confDir, 'tun');
    await sh(`rm -f ${device}; mknod ${device} c 10 200; chmod 666 ${device}; chmod 711 ${join(cni.confDir, '..')}`);
    const user = [`--setuid=${TAP_UID}`, `--setgid=${TAP_UID}`];
    const args = [`--net=${pod.netnsPath}`, ...user, process.execPath, script, ip, pod.interface.mac, device];
    const guest = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(guest.stdout, 'data');
      assert.match(await neighbour(), new RegExp(`lladdr ${pod.interface.mac}`));
    } finally {
      guest.kill('SIGKILL');
      await once(guest, 'close');
      await network.teardown(id);
    }
    await assertNoTraces(cni, [id]);
  });

  it('maps host ports and unmaps them', async () => {
    const id = newId();
    const portMappings = [{ protocol: 'tcp' as const, containerPort: 80, hostPort: 42_817, hostIp: '' }];
    const pod = await start(network, requestFor(id, { portMappings }));
    assert.match(
      await sh('iptables-save -t nat'),
      new RegExp(`--dport 42817 -j DNAT --to-destination ${pod.ips[0]}:80`),
    );
    await network.teardown(id);
    await assertNoTraces(cni, [id]);
    assert.doesNotMatch(await sh('iptables-save -t nat'), /42817/);
  });

  it('tears down after a restart, even when the configuration is another one by then', async () => {
    const id = newId();
    await start(network, requestFor(id));
    await using other = await makeCniConfDir();
    await using restarted = await openNetwork({ config: other.config, stateDir: cni.stateDir, log: silent });
    await restarted.teardown(id);
    await assertNoTraces(cni, [id]);
  });

  it('undoes a pod that was prepared only, and frees what a reboot left of another', async () => {
    const [prepared, rebooted] = [newId(), newId()];
    await network.prepare({ sandboxId: prepared, tapUid: TAP_UID }, signal);
    const again = network.prepare({ sandboxId: prepared, tapUid: TAP_UID }, signal);
    await assert.rejects(again, (error) => isCaissonError(error, 'already_exists'));
    await network.teardown(prepared);
    await start(network, requestFor(rebooted));
    await run('ip', ['netns', 'del', `caisson-${rebooted.slice(0, 13)}`]);
    await network.teardown(rebooted);
    await assertNoTraces(cni, [prepared, rebooted]);
  });

  it('frees the address of a pod whose cache entry a power cut destroyed', async () => {
    const id = newId();
    await start(network, requestFor(id));
    await writeFile(join(cni.stateDir, 'cni', `${id}.json`), '');
    await network.teardown(id);
    await assertNoTraces(cni, [id]);
  });

  it('starts many pods at once, each with an address of its own', async () => {
    const ids = Array.from({ length: 6 }, newId);
    const pods = await Promise.all(ids.map((id) => start(network, requestFor(id))));
    assert.equal(new Set(pods.map((pod) => pod.ips[0])).size, ids.length);
    await Promise.all(ids.map((id) => network.teardown(id)));
    await assertNoTraces(cni, ids);
  });

  it('leaves nothing when it is cancelled at any moment', async () => {
    const ids: string[] = [];
    for (const ms of [1, 5, 12, 20, 30]) {
      const id = newId();
      ids.push(id);
      const cancelled = AbortSignal.timeout(ms);
      const begun = network.prepare({ sandboxId: id, tapUid: TAP_UID }, cancelled);
      await begun
        .then((netns) => network.attach(requestFor(id), netns, cancelled))
        .catch((error: unknown) => {
          assert.ok(isCaissonError(error, 'cancelled'), String(error));
        });
      await network.teardown(id);
    }
    await assertNoTraces(cni, ids);
  });
});

describe('other pod networks', { skip }, () => {
  it('dual stack: IPv4 first, both gateways known; MTU and bandwidth passed on', async () => {
    await using cni = await makeCniConfDir({ dualStack: true, bandwidth: true, mtu: 1400 });
    await using network = await open(cni);
    const id = newId();
    const pod = await start(network, requestFor(id, { bandwidth: { ingressBps: 8_000_000, egressBps: 4_000_000 } }));
    assert.deepEqual(pod.ips, [`${cni.prefix4}.2`, `${cni.prefix6}2`]);
    assert.deepEqual(
      pod.interface.neighbours.map(({ ip }) => ip),
      [`${cni.prefix4}.1`, `${cni.prefix6}1`],
    );
    assert.deepEqual(
      pod.interface.routes.map(({ destination }) => destination),
      ['0.0.0.0/0', '::/0'],
    );
    assert.equal(pod.interface.mtu, 1400);
    assert.match(await sh(`ip -n caisson-${id.slice(0, 13)} link show tap0`), /mtu 1400/);
    assert.match(await sh('tc qdisc show'), /tbf .* rate 8Mbit/);
    await network.teardown(id);
    await assertNoTraces(cni, [id]);
  });

  it('a plugin that fails after the bridge was joined leaves nothing', async () => {
    await using cni = await makeCniConfDir();
    const fail = '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\necho \'{"code":11,"msg":"no more"}\'; exit 1\n';
    await writeFile(join(cni.confDir, 'last'), fail, { mode: 0o755 });
    await cni.addPlugin({ type: 'last' });
    await using network = await openNetwork({
      config: { ...cni.config, bin_dirs: [...cni.config.bin_dirs, cni.confDir] },
      stateDir: cni.stateDir,
      log: silent,
    });
    const id = newId();
    await assert.rejects(start(network, requestFor(id)), /CNI plugin last \(ADD\) failed: no more \(code 11\)/);
    assert.equal((await traces(cni, [id])).length, 1, 'the netns is the only thing left to teardown');
    await network.teardown(id);
    await assertNoTraces(cni, [id]);
  });

  it('a failing DEL is reported, is tried again, and keeps no wires', async () => {
    await using cni = await makeCniConfDir();
    const file = join(cni.confDir, 'last');
    const script = (del: string): string =>
      `#!/bin/sh\ncase $CNI_COMMAND in ADD) cat > $0.in; cat ${file}.result;; DEL) ${del};; esac\n`;
    await writeFile(`${file}.result`, '{"cniVersion":"1.0.0","ips":[]}');
    await writeFile(file, script('echo \'{"code":7,"msg":"stuck"}\'; exit 1'), { mode: 0o755 });
    await cni.addPlugin({ type: 'last' });
    await using network = await openNetwork({
      config: { ...cni.config, bin_dirs: [...cni.config.bin_dirs, cni.confDir] },
      stateDir: cni.stateDir,
      log: silent,
    });
    const id = newId();
    await start(network, requestFor(id));
    await assert.rejects(network.teardown(id), /CNI plugin last \(DEL\) failed: stuck \(code 7\)/);
    await assert.rejects(network.teardown(id), /stuck/);
    assert.deepEqual(await traces(cni, [id]), [`${id}.json`]);
    await writeFile(file, script('exit 0'));
    await network.teardown(id);
    await assertNoTraces(cni, [id]);
  });

  it('says what is missing', async () => {
    await using cni = await makeCniConfDir();
    await using network = await openNetwork({
      config: { ...cni.config, conf_dir: '/nonexistent/net.d' },
      stateDir: cni.stateDir,
      log: silent,
    });
    const status = network.status();
    const message = 'no CNI configuration in /nonexistent/net.d: put a conflist there';
    assert.deepEqual(status, { ready: false, reason: 'NetworkPluginNotReady', message });
    const id = newId();
    await assert.rejects(start(network, requestFor(id)), (error) => isCaissonError(error, 'unavailable'));
    await network.teardown(id);
  });
});
