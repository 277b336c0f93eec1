/** Runs in the node's VM, started by its init: pods whose VMs are reached through the kernel's vhost-vsock. */
import assert from 'node:assert/strict';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type ConfigOverrides } from '../support/daemon.ts';
import { Steps } from '../support/steps.ts';
import { checkMemory } from './memory.ts';
import { checkAccess } from './access.ts';
import { runDense, timed, type Timings } from './pods.ts';
import { checkReset } from './reset.ts';
import { createAndStart, exec, runPod } from '../support/pods.ts';

const RESULT_PORT = '/dev/vport0p2';
const TEMPLATES = '/var/lib/caisson/guest.templates';
const caisson = resolve(import.meta.dirname, '../../bin/caisson');

const vm: ConfigOverrides['vm'] = {
  accelerator: process.env['CAISSON_TEST_ACCELERATOR'] === 'tcg' ? 'tcg' : 'auto',
  boot_timeout_s: 600,
  // every VM that waits takes processor time from those that are timed
  pool: 0,
};
const slow = { cni: { portmap: false }, startTimeoutMs: 600_000 };
const times: Timings = new Map();
let daemonLog = async (): Promise<string> => '';
const steps = new Steps({
  signal: new AbortController().signal,
  explain: async () => (await daemonLog()).split('\n').slice(-12).join('\n'),
});
const cli = (...args: readonly string[]): Promise<{ readonly stdout: string }> =>
  run(caisson, ['--config', '/tmp/caisson.toml', ...args], { timeoutMs: 30 * 60_000 });

await writeFile(
  '/tmp/caisson.toml',
  `[vm]\naccelerator = "${vm.accelerator}"\nboot_timeout_s = ${vm.boot_timeout_s}\n`,
);
let accelerator = 'unknown';

await steps.section('the node', async () => {
  await steps.check('doctor finds the kernel vhost-vsock and says whose clones are private', async () => {
    const found = JSON.parse((await cli('doctor', '--json')).stdout) as {
      name: string;
      status: string;
      message: string;
    }[];
    const message = (name: string): string =>
      found.find((finding) => finding.name === name)?.message ?? 'no such check';
    assert.equal(message('vsock'), '/dev/vhost-vsock');
    assert.match(message('clone memory'), /^copied: virtiofsd.*; private for handler caisson-dense: /);
    assert.deepEqual(
      found.filter(({ status }) => status === 'fail'),
      [],
    );
  });
  await steps.need('the template is made, and tried by a clone', async () => {
    const { stdout } = await timed(times, 'template made (a boot, a save, a clone)', () => cli('template', 'build'));
    accelerator = /\((\w+)\)/.exec(stdout)?.[1] ?? 'unknown';
  });
});

await steps.section('pods', async () => {
  await using daemon = await steps.need('the daemon starts', () => startTestDaemon({ ...slow, config: { vm } }));
  daemonLog = () => daemon.log();
  const ram = join(TEMPLATES, (await readdir(TEMPLATES))[0] ?? '', 'ram');
  const digest = async (): Promise<string> => (await run('sha256sum', [ram])).stdout;
  const before = await digest();
  const dense = await steps.need('a dense pod starts', () =>
    timed(times, 'RunPodSandbox, clone by private mapping', () => runDense(daemon, 'dense')),
  );
  const container = await steps.need('its container starts', () =>
    timed(times, 'CreateContainer + StartContainer', () => createAndStart(dense, 'sleep', ['sleep', '86400'])),
  );
  await steps.need('exec answers from the guest', async () => {
    const uname = await timed(times, 'ExecSync, the first', () => exec(daemon, container, ['uname', '-a']));
    assert.match(uname.stdout, /^Linux dense /);
    await timed(times, 'ExecSync, the second', () => exec(daemon, container, ['true']));
  });
  await steps.section('  access', () => checkAccess(steps, daemon));
  const usual = await steps.need('a usual pod starts', () =>
    timed(times, 'RunPodSandbox, clone by copied memory', () => runPod(daemon, 'usual')),
  );
  await steps.section('  memory', () => checkMemory(steps, { dense, usual, container, ram, times }));
  await steps.section('  transport reset', () => checkReset(steps, dense, times));
  await steps.section('  restart of the daemon', async () => {
    await steps.check('the next daemon takes the VMs over', async () => {
      await timed(times, 'restart of the daemon, until it answers', () => daemon.restart());
      assert.equal((await exec(daemon, container, ['true'])).exitCode, 0);
    });
  });
  await steps.check('no clone has written to the template', async () => assert.equal(await digest(), before));
});

await steps.section('without a template', async () => {
  const config = { vm: { ...vm, template: false } };
  await using daemon = await steps.need('the daemon starts', () => startTestDaemon({ ...slow, config }));
  daemonLog = () => daemon.log();
  await steps.check('a pod boots with its vsock device in place, and execs', async () => {
    const pod = await timed(times, 'RunPodSandbox, cold boot', () => runPod(daemon, 'booted'));
    const id = await createAndStart(pod, 'sleep', ['sleep', '86400']);
    assert.equal((await exec(daemon, id, ['true'])).exitCode, 0);
  });
});

const lines = [
  `accelerator ${accelerator}, host and guest kernel ${(await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim()}`,
  ...[...times].map(([what, value]) => `${what}: ${value}`),
  steps.summary(),
];
await writeFile(RESULT_PORT, JSON.stringify({ ok: steps.failed === 0, lines }));
