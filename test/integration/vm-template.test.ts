import assert from 'node:assert/strict';
import { chmod, mkdtemp, open, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'smol-toml';
import { connectAgent } from '../../src/agent/index.ts';
import { configSchema, type Config } from '../../src/config/schema.ts';
import { run } from '../../src/lib/exec.ts';
import { findProcesses } from '../../src/lib/processes.ts';
import { createLogger } from '../../src/telemetry/index.ts';
import type { Vm, VmPort, VmSpec } from '../../src/vm/contracts.ts';
import { openStorage } from '../../src/storage/index.ts';
import type { StoragePort } from '../../src/storage/contracts.ts';
import { openVms } from '../../src/vm/index.ts';
import { runCli, startCli } from '../support/cli.ts';

const ACCELERATOR = process.env['CAISSON_TEST_ACCELERATOR'] ?? 'tcg';
/** as long as QEMU has a VM that was moved tell the network so */
const ANNOUNCING_MS = 1500;
const log = createLogger({ level: 'error' });
let home = '';
let config: Config['vm'];
let disks: StoragePort;

const openPort = (changes: Partial<Config['vm']> = {}): Promise<VmPort> =>
  openVms({ config: { ...config, ...changes }, stateDir: join(home, 'state'), disks, log });
const settled = async (vms: VmPort): Promise<string> => {
  const alive = setInterval(() => undefined, 1000);
  await vms.settled;
  clearInterval(alive);
  const { state, detail } = vms.template();
  return state === 'ready' ? state : `${state}: ${detail}`;
};

async function spec(number: number): Promise<VmSpec> {
  const sandboxId = `${number}`.repeat(16);
  const uid = config.uid_base + 1000 + number;
  return {
    sandboxId,
    cid: 0x1000_0000 + process.pid * 16 + number,
    uid,
    network: { netnsPath: null, tapName: 'tap0', mac: '02:00:00:00:00:01' },
    scratch: await disks.createScratch(sandboxId, uid, AbortSignal.timeout(10_000)),
  };
}

async function identity(vm: Vm): Promise<{ bootId: string; kernelRelease: string }> {
  using agent = connectAgent(vm.agentSocket);
  return await agent.info(AbortSignal.timeout(60_000));
}

/** not the command that makes them; `kind`: only such */
const strays = (kind = ''): Promise<unknown[]> =>
  findProcesses(
    (commandLine) => [home, kind].every((part) => commandLine.includes(part)) && !commandLine.includes('--config'),
  );
const templates = (): Promise<string[]> => readdir(join(home, 'guest.templates'));

async function damage(name: string): Promise<void> {
  const [template = ''] = await templates();
  await using file = await open(join(home, 'guest.templates', template, name), 'r+');
  await file.write('damaged', 0);
}

describe('the VM template', { skip: process.getuid?.() === 0 ? false : 'needs root' }, () => {
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'cst-'));
    await chmod(home, 0o711);
    const { guest_image } = configSchema.parse({}).vm;
    // templates are kept beside the guest image: a link gives this test its own
    await symlink(guest_image, join(home, 'guest'));
    config = configSchema.parse({ vm: { guest_image: join(home, 'guest'), accelerator: ACCELERATOR } }).vm;
    disks = await openStorage({ root: join(home, 'storage'), config: configSchema.parse({}).storage, log });
  });
  after(() => rm(home, { recursive: true, force: true }));

  it('is made in the background, and a start that is cut off leaves nothing', async () => {
    const vms = await openPort();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.equal(vms.template().state, 'being made');
    await vms[Symbol.asyncDispose]();
    assert.deepEqual(await strays(), []);
    assert.deepEqual(await templates(), []);
  });

  it('is made by hand; what an interrupted build has begun is gone with it, or with the next when it was killed', async () => {
    const state = join(home, 'cli');
    const file = join(home, 'caisson.toml');
    await writeFile(
      file,
      stringify({
        root: join(home, 'storage'),
        state,
        vm: { guest_image: join(home, 'guest'), accelerator: ACCELERATOR },
      }),
    );
    const build = ['--config', file, 'template', 'build'];
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const { child, ended } = startCli(build);
      while ((await strays('/vms/template-')).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
      child.kill(signal);
      const { stderr } = await ended;
      if (signal === 'SIGINT') {
        assert.match(stderr, /interrupted/);
        assert.deepEqual([await strays(), await readdir(state)], [[], []]);
      } else assert.notDeepEqual(await strays(), []);
    }
    const { code, stderr } = await runCli(build);
    assert.equal(code, 0, stderr);
    assert.deepEqual([await strays(), await readdir(state)], [[], []]);
    assert.equal((await templates()).length, 1);
  });

  it('gives every clone an identity of its own', async () => {
    await using vms = await openPort();
    assert.equal(await settled(vms), 'ready');
    await using first = await vms.start(await spec(1), AbortSignal.timeout(60_000));
    await using second = await vms.start(await spec(2), AbortSignal.timeout(60_000));
    const [a, b] = [await identity(first), await identity(second)];
    assert.notEqual(a.bootId, b.bootId);
    assert.equal(a.kernelRelease, b.kernelRelease);
  });

  it('lets no clone say anything in its network before that is configured', async () => {
    await using vms = await openPort();
    const wanted = await spec(7);
    const netns = `cst-announce-${process.pid}`;
    const ip = (...args: string[]): Promise<unknown> => run('ip', ['-n', netns, ...args]);
    await run('ip', ['netns', 'add', netns]);
    try {
      await ip('tuntap', 'add', 'tap0', 'mode', 'tap', 'user', String(wanted.uid));
      await ip('link', 'set', 'tap0', 'up');
      const network = { netnsPath: `/run/netns/${netns}`, tapName: 'tap0', mac: '02:00:00:00:00:01' };
      await using vm = await vms.start({ ...wanted, network }, AbortSignal.timeout(60_000));
      await sleep(ANNOUNCING_MS);
      const counters = await readFile(`/proc/${vm.record.pid}/net/dev`, 'utf8');
      assert.equal(/tap0: +\d+ +(\d+)/.exec(counters)?.[1], '0', counters);
    } finally {
      await run('ip', ['netns', 'del', netns]);
    }
  });

  it('is used again by the next daemon', async () => {
    const [existing] = await templates();
    await using vms = await openPort();
    await vms.start(await spec(3), AbortSignal.timeout(60_000)).then((vm) => vm[Symbol.asyncDispose]());
    assert.equal(vms.template().state, 'ready');
    assert.deepEqual(await templates(), [existing]);
  });

  it('boots a VM that cannot be cloned, with a disk that the clone has not had', async () => {
    await using vms = await openPort();
    assert.equal(await settled(vms), 'ready');
    await damage('state');
    const wanted = await spec(4);
    const made = async (): Promise<number> => (await stat(wanted.scratch ?? '')).birthtimeMs;
    const first = await made();
    await using vm = await vms.start(wanted, AbortSignal.timeout(120_000));
    assert.notEqual((await identity(vm)).bootId, '');
    assert.doesNotMatch(await readFile(`/proc/${vm.record.pid}/cmdline`, 'utf8'), /-incoming|scratch-base/);
    assert.ok((await made()) > first);
  });

  it('never runs when it is damaged: a new one is made', async () => {
    for (const name of ['ram', 'scratch.qcow2']) {
      await using vms = await openPort();
      assert.equal(await settled(vms), 'ready'); // the one before is damaged
      await damage(name);
    }
    await using vms = await openPort();
    const alive = setInterval(() => undefined, 1000);
    await using vm = await vms.start(await spec(5), AbortSignal.timeout(120_000));
    clearInterval(alive);
    assert.notEqual((await identity(vm)).bootId, '');
    assert.equal(await settled(vms), 'ready');
  });

  it('is made anew when QEMU is upgraded while the daemon runs', async () => {
    const qemu = join(home, 'qemu');
    const install = async (version: number): Promise<void> => {
      const words = `--version) echo "QEMU emulator version ${version}"; exit;;`;
      await writeFile(`${qemu}.new`, `#!/bin/sh\ncase $1 in ${words} esac\nexec qemu-system-x86_64 "$@"\n`, {
        mode: 0o755,
      });
      await rename(`${qemu}.new`, qemu);
    };
    await install(98);
    await using vms = await openPort({ qemu });
    assert.equal(await settled(vms), 'ready');
    const old = vms.template().detail;
    await install(99);
    // it boots: the template of the earlier QEMU is not for this one
    await using booted = await vms.start(await spec(6), AbortSignal.timeout(120_000));
    assert.notEqual((await identity(booted)).bootId, '');
    while (vms.template().state === 'being made') await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(vms.template().state, 'ready');
    assert.notEqual(vms.template().detail, old);
  });

  it('leaves no process behind', async () => {
    assert.deepEqual(await strays(), []);
  });
});
