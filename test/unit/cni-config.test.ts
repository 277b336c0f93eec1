import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../src/lib/logger.ts';
import { loadConfig, parseNetwork } from '../../src/network/cni/config.ts';
import { startMonitor } from '../../src/network/cni/monitor.ts';
import type { CniMonitor } from '../../src/network/cni/monitor.ts';

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
let root: string;
let confDir: string;
let binDir: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'caisson-cni-unit-'));
  confDir = join(root, 'cni', 'net.d');
  binDir = join(root, 'bin');
  await mkdir(binDir);
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

const list = (name: string, fields: object = {}): string =>
  JSON.stringify({ cniVersion: '1.0.0', name, plugins: [{ type: 'fake' }], ...fields });

async function put(file: string, text: string): Promise<void> {
  await mkdir(confDir, { recursive: true });
  await writeFile(join(confDir, file), text);
}

async function putPlugin(body = 'exit 0'): Promise<void> {
  await writeFile(join(binDir, 'fake'), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
}

async function eventually(check: () => void): Promise<void> {
  const deadline = performance.now() + 3000;
  for (;;) {
    try {
      return check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(20);
    }
  }
}

describe('CNI configuration', () => {
  it('takes the first usable file by name and keeps why others were skipped', async () => {
    await put('00-notes.txt', 'not looked at');
    await put('05-broken.conflist', '{"cniVersion": ');
    await put('06-empty.conflist', list('empty', { plugins: [] }));
    await put('10-good.conflist', list('good'));
    await put('20-later.conflist', list('later'));
    const { network, skipped } = await loadConfig(confDir);
    assert.equal(network?.name, 'good');
    assert.equal(network.source, join(confDir, '10-good.conflist'));
    assert.deepEqual(
      skipped.map(({ file }) => file),
      [join(confDir, '05-broken.conflist'), join(confDir, '06-empty.conflist')],
    );
    assert.match(skipped[1]?.reason ?? '', /^plugins: /);
  });

  it('takes a single plugin as a list of one and keeps keys it does not know', () => {
    const network = parseNetwork('{"cniVersion":"0.3.1","name":"n","type":"bridge","bridge":"br0"}', 'f.conf');
    assert.equal(network.cniVersion, '0.3.1');
    assert.equal(network.plugins[0]?.type, 'bridge');
    assert.equal(network.plugins[0]?.['bridge'], 'br0');
  });

  it('picks the highest version that both sides know', () => {
    assert.equal(
      parseNetwork(list('n', { cniVersion: '0.4.0', cniVersions: ['1.1.0', '9.0.0'] }), 'f').cniVersion,
      '1.1.0',
    );
    assert.throws(
      () => parseNetwork(list('n', { cniVersion: '0.2.0' }), 'f'),
      /cniVersion 0\.2\.0: Caisson speaks 0\.3\.0/,
    );
    assert.throws(() => parseNetwork('{"name":"n","plugins":[{"type":"t"}]}', 'f'), /no cniVersion/);
  });

  it('refuses names and types that could name another file', () => {
    assert.throws(() => parseNetwork(list('../n'), 'f'), /name: /);
    assert.throws(() => parseNetwork(list('n', { plugins: [{ type: '../../bin/sh' }] }), 'f'), /plugins\.0\.type: /);
  });

  it('says what to do when there is none', async () => {
    assert.equal((await loadConfig(confDir)).problem, `no CNI configuration in ${confDir}: put a conflist there`);
    await put('10.conf', '[]');
    assert.match((await loadConfig(confDir)).problem ?? '', /no usable CNI configuration.*10\.conf: file: /);
  });
});

describe('CNI monitor', () => {
  let monitor: CniMonitor | undefined;
  const start = async (timeoutMs = 5000): Promise<CniMonitor> => {
    monitor = await startMonitor(confDir, { binDirs: [binDir], timeoutMs }, silent);
    return monitor;
  };
  const message = (): string => {
    const status = monitor?.status();
    return status?.ready === false ? status.message : 'ready';
  };
  afterEach(() => monitor?.[Symbol.dispose]());

  it('notices a directory that appears, changes, goes and comes again', async () => {
    await putPlugin();
    const { network } = await start();
    assert.match(message(), /no CNI configuration/);
    await assert.rejects(network(), /put a conflist there/);
    await put('10.conflist', list('one'));
    await eventually(() => assert.equal(message(), 'ready'));
    await put('05.conflist', list('two'));
    await sleep(200);
    assert.equal((await network()).name, 'two');
    await rm(join(root, 'cni'), { recursive: true });
    await eventually(() => assert.match(message(), /no CNI configuration/));
    await put('10.conflist', list('three'));
    await eventually(() => assert.equal(message(), 'ready'));
    assert.equal((await network()).name, 'three');
  });

  it('is not ready while a plugin is missing', async () => {
    await put('10.conflist', list('n'));
    const { status } = await start();
    await eventually(() => assert.match(message(), /CNI plugin fake is in none of .*bin/));
    assert.equal((status() as { reason: string }).reason, 'NetworkPluginNotReady');
  });

  it('asks plugins of 1.1.0 for their STATUS, once per configuration', async () => {
    await putPlugin(`echo x >> ${root}/calls; echo '{"code":50,"msg":"agent is down","details":"since noon"}'; exit 1`);
    await put('10.conflist', list('n', { cniVersion: '1.1.0' }));
    await start();
    await eventually(() => assert.match(message(), /fake \(STATUS\) failed: agent is down: since noon \(code 50\)/));
    await putPlugin();
    await put('10.conflist', list('m', { cniVersion: '1.1.0' }));
    await eventually(() => assert.equal(message(), 'ready'));
  });

  it('answers at once while STATUS hangs', async () => {
    await putPlugin('exec sleep 30');
    await put('10.conflist', list('n', { cniVersion: '1.1.0' }));
    await start(400);
    assert.match(message(), /have not answered STATUS yet/);
    await eventually(() => assert.match(message(), /did not finish within 400 ms/));
  });
});
