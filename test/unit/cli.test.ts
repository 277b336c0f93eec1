import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { diagnose } from '../../src/cli/doctor.ts';
import type { Result } from '../../src/cli/doctor.ts';
import { atLeast, findProgram, parseVersion } from '../../src/cli/doctor/check.ts';
import { pluginTypes } from '../../src/cli/doctor/network.ts';
import { configSchema } from '../../src/config/schema.ts';
import { openStore } from '../../src/state/index.ts';

const caisson = resolve(import.meta.dirname, '../../bin/caisson');
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-cli-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function cli(args: readonly string[], program = caisson): Promise<Outcome> {
  const { promise, resolve: done } = Promise.withResolvers<Outcome>();
  const child = execFile(program, [...args], { timeout: 60_000 }, (_error, stdout, stderr) => {
    done({ code: child.exitCode ?? -1, stdout, stderr });
  });
  return promise;
}

/** Options that keep a command away from the real daemon of this machine. */
async function isolated(text = ''): Promise<string[]> {
  const config = join(directory, 'config.toml');
  await writeFile(config, text);
  return ['--config', config, '--root', join(directory, 'root'), '--state', join(directory, 'state')];
}

describe('bin/caisson', () => {
  it('runs through a symbolic link from anywhere', async () => {
    const link = join(directory, 'link');
    await symlink(caisson, link);
    const { code, stdout, stderr } = await cli(['version'], link);
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    assert.match(stdout, /^caisson \d+\.\d+\.\d+ \(node 24\./);
  });

  it('says what to run when the npm packages are missing', async () => {
    const bin = join(directory, 'bin');
    await mkdir(bin);
    for (const name of ['caisson', 'node']) await cli([resolve(caisson, '..', name), bin], 'cp');
    const { code, stderr } = await cli(['version'], join(bin, 'caisson'));
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`run ${directory}/bin/setup`));
  });
});

describe('commands', () => {
  it('exit with 2 and a suggestion on a wrong command line', async () => {
    const { code, stderr } = await cli(['srve']);
    assert.equal(code, 2);
    assert.match(stderr, /unknown command 'srve'\n\(Did you mean serve\?\)/);
  });

  it('take global options before and after the name of the command', async () => {
    const before = await cli(['--log-level', 'debug', 'config']);
    const after = await cli(['config', '--log-level', 'debug']);
    assert.match(before.stdout, /level = "debug"/);
    assert.equal(after.stdout, before.stdout);
  });

  it('say of a wrong file what, why and how, without a stack', async () => {
    const { code, stdout, stderr } = await cli([...(await isolated('[vm]\nvcpu = 2')), 'config']);
    assert.deepEqual({ code, stdout }, { code: 1, stdout: '' });
    assert.match(stderr, /config\.toml: unknown key vm\.vcpu; did you mean vm\.vcpus\?\n {2}to fix it: .*\n$/);
  });

  it('say so when no daemon answers', async () => {
    const { code, stderr } = await cli([...(await isolated()), 'image', 'list']);
    assert.equal(code, 1);
    assert.match(stderr, /no caisson daemon answers on .*state\/caisson\.sock\n {2}to fix it: .*caisson serve/);
  });

  it('do not load images behind the back of a daemon', async () => {
    const args = await isolated();
    using store = openStore(join(directory, 'root/caisson.db'));
    const { code, stderr } = await cli([...args, 'image', 'load', directory]);
    assert.ok(store);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /cannot be loaded while the daemon runs\n {2}because: another caisson uses .*\n {2}to fix it: stop it/,
    );
  });
});

describe('serve', () => {
  it('ends with 1 and one reason when another daemon has its root', async () => {
    const args = await isolated();
    using store = openStore(join(directory, 'root/caisson.db'));
    assert.ok(store);
    const { code, stderr } = await cli([...args, 'serve']);
    assert.equal(code, 1);
    assert.match(stderr, /another caisson uses .*root/);
  });

  it('ends in peace on SIGTERM', async (t) => {
    if (process.getuid?.() !== 0) return t.skip('needs root');
    const child = spawn(caisson, [...(await isolated('[vm]\naccelerator = "tcg"')), 'serve'], {
      timeout: 60_000,
      killSignal: 'SIGKILL',
    });
    const { promise, resolve: done } = Promise.withResolvers<number | null>();
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString();
      if (chunk.includes('"ready"')) child.kill('SIGTERM');
    });
    child.on('close', done);
    assert.equal(await promise, 0, log);
    assert.match(log, /"stopping; pods keep running"[^]*"stopped"/);
  });
});

describe('doctor', () => {
  it('answers with a status, a reason and a cure for each check', async () => {
    const { code, stdout } = await cli([...(await isolated()), 'doctor', '--json']);
    const results = JSON.parse(stdout) as Result[];
    assert.equal(code, results.some(({ status }) => status === 'fail') ? 1 : 0);
    for (const { name, why, status, message, fix } of results) {
      assert.ok(name && why && message, name);
      assert.ok(status === 'ok' || fix, `${name} has no cure`);
    }
  });

  it('finds what is missing', async () => {
    const vm = `[vm]\nqemu = "/no/qemu"\nguest_image = "${directory}/none"\n`;
    const text = `${vm}[network]\nconf_dir = "${directory}/cni"\n`;
    await mkdir(join(directory, 'cni'));
    await writeFile(join(directory, 'cni/10-x.conflist'), '{"plugins":[{"type":"no-such-plugin"}]}');
    const { code, stdout } = await cli([...(await isolated(text)), 'doctor']);
    assert.equal(code, 1);
    assert.match(stdout, /^fail {2}qemu +not installed\n +why: .*\n +fix: .*bin\/setup$/m);
    assert.match(stdout, /^fail {2}guest image +none in .*\n.*\n +fix: caisson image build$/m);
    assert.match(stdout, /^fail {2}cni configuration .*needs no-such-plugin/m);
  });

  it('believes the last probe and not /dev/kvm', async () => {
    const args = await isolated(`[vm]\nguest_image = "${directory}/guest"\n`);
    const probe = { key: 'k', choice: { kind: 'tcg', cpuModel: 'max', reason: 'a guest did not boot with KVM' } };
    await writeFile(join(directory, 'guest.accelerator.json'), JSON.stringify(probe));
    const { stdout } = await cli([...args, 'doctor']);
    assert.match(stdout, /^warn {2}accelerator +tcg: a guest did not boot with KVM$/m);
  });

  it('reports a check that breaks, and the others all the same', async () => {
    const checks = [
      { name: 'a', why: 'w', find: () => Promise.reject(new Error('boom')) },
      { name: 'b', why: 'w', find: () => ({ status: 'ok' as const, message: 'fine' }) },
    ];
    const results = await diagnose(configSchema.parse({}), checks);
    assert.deepEqual(
      results.map(({ status, message }) => [status, message]),
      [
        ['fail', 'cannot be checked: boom'],
        ['ok', 'fine'],
      ],
    );
  });

  it('compares versions by number', async () => {
    assert.equal(parseVersion('QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)'), '10.0.2');
    assert.ok(atLeast('10.0.2', '9.0') && atLeast('1.7', '1.7') && !atLeast('1.7.9', '1.8') && atLeast('2', '1.99'));
    assert.equal((await findProgram(process.execPath, '99.0')).status, 'fail');
  });

  it('sees the plugins that plugins call', () => {
    const list = { plugins: [{ type: 'bridge', ipam: { type: 'host-local' } }, { type: 'portmap' }, {}, 'x'] };
    assert.deepEqual(pluginTypes(list), ['bridge', 'host-local', 'portmap']);
    assert.deepEqual(pluginTypes({ type: 'ptp' }), ['ptp']);
  });
});
