/** OpenSSH's own clients, and rsync, through the daemon's ssh gateway. */
import { deepStrictEqual, match, ok, strictEqual } from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../src/lib/exec.ts';
import { sh } from '../../support/pods.ts';
import { countFds } from '../../support/resources.ts';
import { eventually } from '../../support/steps.ts';
import { askTcp, deafPort } from '../../support/streaming/tcp.ts';
import { answerOf, printed, PAGE, PORTS, type Client, type ClientAnswer, type World } from './world.ts';

const MIB = 1024 * 1024;
const CAISSON = join(import.meta.dirname, '../../../bin/caisson');
const CLIENT_TIMEOUT_MS = 120_000;
const BOX = 'box.streams.default.caisson';
const TOOLS = 'tools.streams.default.caisson';
const CYCLES = 20;

export interface SshWorld extends World {
  /** of a person whose key gets in */
  readonly home: string;
  readonly config: string;
}

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** As a person would. */
export async function setUpSsh(world: World): Promise<SshWorld> {
  const { steps, daemon } = world;
  const home = join(daemon.dir, 'home');
  await mkdir(home);
  const setup = () =>
    run(CAISSON, ['--config', daemon.configFile, 'ssh', 'setup'], { env: { ...process.env, HOME: home } });
  await steps.check('ssh setup makes a key and writes the Host block; again, it changes nothing', async () => {
    match((await setup()).stdout, /^made the key/);
    const config = join(home, '.ssh/config');
    const before = await readFile(config, 'utf8');
    match((await setup()).stdout, /^uses the key/);
    strictEqual(await readFile(config, 'utf8'), before);
    // the client understands all of it, also when another host is meant
    await run('ssh', ['-F', config, '-G', 'elsewhere']);
    const { stdout } = await run('ssh', ['-F', config, '-G', BOX]);
    strictEqual(/^obscurekeystroketiming no$/m.test(stdout), stdout.includes('obscurekeystroketiming'));
  });
  return { ...world, home, config: join(home, '.ssh/config') };
}

/** ssh, or another program of OpenSSH. */
export function startSsh({ config }: SshWorld, args: readonly string[], program = 'ssh'): Client {
  const options = ['-F', config, '-o', 'BatchMode=yes'];
  const client = spawn(program, [...options, ...args], { timeout: CLIENT_TIMEOUT_MS, killSignal: 'SIGKILL' });
  client.stdin.on('error', () => undefined);
  return client;
}

async function ssh(
  world: SshWorld,
  args: readonly string[],
  input: string | Buffer = '',
  program = 'ssh',
): Promise<ClientAnswer> {
  const client = startSsh(world, args, program);
  client.stdin.end(input);
  return answerOf(client);
}

/** The answer of a program that must succeed. */
async function good(world: SshWorld, program: string, args: readonly string[], input = ''): Promise<string> {
  const { stdout, stderr, code } = await ssh(world, args, input, program);
  strictEqual(code, 0, stderr);
  return stdout.toString();
}

export async function sshSessions(world: SshWorld): Promise<void> {
  const { steps, daemon, box } = world;
  await steps.check('output on both streams, and the exact exit code', async () => {
    const { stdout, stderr, code } = await ssh(world, [BOX, 'echo out; echo err >&2; exit 42']);
    deepStrictEqual([stdout.toString(), stderr, code], ['out\n', 'err\n', 42]);
  });
  await steps.check('a command that a signal has killed', async () => {
    strictEqual((await ssh(world, [BOX, 'kill -TERM $$'])).code, 255);
  });
  await steps.check('by the user name, and by the first digits of an id', async () => {
    for (const name of ['box.streams.default@caisson', `${box.slice(0, 8)}.caisson`])
      strictEqual((await ssh(world, [name, 'hostname'])).stdout.toString(), 'streams\n');
  });
  await steps.check('input until its end, every byte of it, there and back', async () => {
    const bytes = randomBytes(MIB);
    const { stdout, code } = await ssh(world, [BOX, 'cat'], bytes);
    deepStrictEqual([sha(stdout), code], [sha(bytes), 0]);
  });
  await steps.check('8 MiB of output, none of it lost at the end', async () => {
    await sh(daemon, box, 'dd if=/dev/urandom of=/tmp/blob bs=1M count=8 2>/dev/null');
    const { stdout } = await ssh(world, [BOX, 'cat /tmp/blob']);
    strictEqual(sha(stdout), (await sh(daemon, box, 'sha256sum </tmp/blob; rm /tmp/blob')).stdout.split(' ')[0]);
  });
  await steps.check('a shell in a terminal, which is typed into', async () => {
    const client = startSsh(world, ['-tt', BOX]);
    const answer = answerOf(client);
    client.stdin.write('tty; echo $((6 * 7)); exit 5\r');
    const { stdout, code } = await answer;
    match(stdout.toString(), /^\/dev\/pts\/\d+\r\n42\r$/m);
    strictEqual(code, 5);
  });
  await steps.check('bash, where there is one, and variables that are allowed', async () => {
    const { stdout } = await ssh(world, ['-o', 'SetEnv=LC_X=yes', TOOLS], 'echo "$BASH $LC_X"; exit\n');
    strictEqual(stdout.toString(), '/usr/bin/bash yes\n');
  });
  await steps.check('what a client that is killed leaves behind, ends', async () => {
    const client = startSsh(world, [BOX, 'echo $$; exec sleep 98765']);
    const [line] = (await once(client.stdout, 'data')) as [Buffer];
    const pid = String(line).trim();
    strictEqual((await sh(daemon, box, `kill -0 ${pid}`)).exitCode, 0);
    client.kill('SIGKILL');
    await eventually(async () => ok((await sh(daemon, box, `kill -0 ${pid}`)).exitCode !== 0));
  });
  await steps.check('many sessions through one connection (ControlMaster)', async () => {
    const path = join(world.home, 'control');
    const control = ['-o', `ControlPath=${path}`];
    const master = startSsh(world, ['-M', '-N', ...control, BOX]);
    const ended = once(master, 'close');
    await eventually(async () => strictEqual((await ssh(world, ['-O', 'check', ...control, BOX])).code, 0));
    const codes = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => (await ssh(world, [...control, BOX, `exit ${i}`])).code),
    );
    deepStrictEqual(
      codes,
      codes.map((_, i) => i),
    );
    await ssh(world, ['-O', 'exit', ...control, BOX]);
    await ended;
  });
  await steps.check(`${CYCLES} connections come and go, half of them killed, and nothing is held`, async () => {
    const before = await countFds(daemon);
    for (let i = 0; i < CYCLES; i++) {
      const client = startSsh(world, [BOX, i % 2 === 0 ? 'echo ready' : 'echo ready; cat']);
      const ended = once(client, 'close');
      await once(client.stdout, 'data');
      if (i % 2 === 1) client.kill('SIGKILL');
      await ended;
    }
    await eventually(async () => {
      const fds = await countFds(daemon);
      ok(fds <= before + 1, `${before} before, ${fds} after`);
    });
  });
}

export async function sshFiles(world: SshWorld): Promise<void> {
  const { steps, daemon, box, home } = world;
  const tree = join(home, 'tree');
  const blob = randomBytes(MIB);
  await mkdir(join(tree, 'sub'), { recursive: true });
  await writeFile(join(tree, 'blob'), blob);
  await writeFile(join(tree, 'sub/a name'), 'text\n', { mode: 0o755 });
  const same = async (back: string): Promise<void> => {
    strictEqual(sha(await readFile(join(back, 'blob'))), sha(blob));
    strictEqual(await readFile(join(back, 'sub/a name'), 'utf8'), 'text\n');
  };
  await steps.check('scp there and back, of a container without sftp-server', async () => {
    await good(world, 'scp', ['-r', '-p', tree, `${BOX}:/tmp/tree`]);
    strictEqual((await sh(daemon, box, 'stat -c %a "/tmp/tree/sub/a name"')).stdout, '755\n');
    await good(world, 'scp', ['-r', `${BOX}:/tmp/tree`, join(home, 'by-scp')]);
    await same(join(home, 'by-scp'));
  });
  await steps.check('scp -O, by scp in the image', async () => {
    await good(world, 'scp', ['-O', '-r', tree, `${TOOLS}:/tmp/tree`]);
    await good(world, 'scp', ['-O', '-r', `${TOOLS}:/tmp/tree`, join(home, 'by-old-scp')]);
    await same(join(home, 'by-old-scp'));
  });
  await steps.check('scp says what is not there', async () => {
    const { stderr, code } = await ssh(world, [`${BOX}:/no/such/file`, home], '', 'scp');
    match(stderr, /No such file/);
    strictEqual(code, 1);
  });
  await steps.check('sftp: put, get, list, rename, link, modes, remove', async () => {
    const batch = [
      'mkdir /tmp/s',
      `put "${join(tree, 'blob')}" /tmp/s/blob`,
      'rename /tmp/s/blob /tmp/s/moved',
      'symlink moved /tmp/s/link',
      'ln /tmp/s/moved /tmp/s/hard',
      'chmod 600 /tmp/s/moved',
      `get /tmp/s/link "${join(home, 'by-sftp')}"`,
      'ls -l /tmp/s',
      'df /tmp',
      'rm /tmp/s/link',
      'rm /tmp/s/hard',
      'rm /tmp/s/moved',
      'rmdir /tmp/s',
      'cd /home/app',
      'pwd',
    ];
    const said = await good(world, 'sftp', ['-b', '-', BOX], batch.join('\n'));
    match(said, /^-rw------- +2 .* 1048576 .* moved$/m);
    match(said, /^lrwxrwxrwx .* link$/m);
    match(said, /Remote working directory: \/home\/app/);
    strictEqual(sha(await readFile(join(home, 'by-sftp'))), sha(blob));
    strictEqual((await sh(daemon, box, 'ls /tmp/s')).exitCode, 1);
  });
  await steps.check('rsync there and back', async () => {
    const shell = ['-e', `ssh -F ${world.config} -o BatchMode=yes`];
    const rsync = (...args: string[]) =>
      run('rsync', ['-a', '--delete', ...shell, ...args], { timeoutMs: CLIENT_TIMEOUT_MS });
    await rsync(`${tree}/`, `${TOOLS}:/tmp/synced`);
    await rsync(`${TOOLS}:/tmp/synced/`, join(home, 'by-rsync'));
    await same(join(home, 'by-rsync'));
  });
}

export async function sshPorts(world: SshWorld): Promise<void> {
  const { steps } = world;
  await steps.check('ssh -L: pages, half-close, and a port that nobody listens on', async () => {
    const [page, count, deaf] = [await deafPort(), await deafPort(), await deafPort()];
    const forwards = [
      ['-L', `${page}:localhost:${PORTS.page}`],
      ['-L', `${count}:127.0.0.1:${PORTS.count}`],
      ['-L', `${deaf}:localhost:${PORTS.deaf}`],
    ].flat();
    const client = startSsh(world, ['-o', 'ExitOnForwardFailure=yes', ...forwards, BOX, 'echo ready; exec cat']);
    const ended = once(client, 'close');
    try {
      await printed(client.stdout, /ready/);
      const request = 'GET / HTTP/1.0\r\n\r\n';
      const pages = await Promise.all([1, 2, 3].map(() => askTcp(page, request)));
      for (const answer of pages) ok(answer.endsWith(PAGE), answer);
      strictEqual(await askTcp(count, randomBytes(MIB)), `${MIB} bytes\n`);
      strictEqual(await askTcp(deaf, 'x').catch(() => ''), '');
    } finally {
      client.stdin.end();
      await ended;
    }
  });
}

/** Somebody else's key. */
async function withKey(world: SshWorld, key: string): Promise<SshWorld> {
  const config = `${key}.config`;
  await writeFile(config, (await readFile(world.config, 'utf8')).replace(/IdentityFile .*/, `IdentityFile ${key}`));
  return { ...world, config };
}

export async function sshRefusals(world: SshWorld): Promise<void> {
  const { steps, daemon, home } = world;
  await steps.check('a key that nobody let in', async () => {
    const key = join(home, 'stranger');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const { stderr, code } = await ssh(await withKey(world, key), [BOX, 'true']);
    match(stderr, /Permission denied \(publickey\)/);
    strictEqual(code, 255);
  });
  await steps.check('RSA keys get in, but not by SHA-1; ECDSA keys get in', async () => {
    const keys = join(daemon.config.root, 'ssh/authorized_keys');
    for (const [type, flags, wanted] of [
      ['rsa', [], 0],
      ['rsa', ['-o', 'PubkeyAcceptedAlgorithms=ssh-rsa'], 255],
      ['ecdsa', [], 0],
    ] as const) {
      const key = join(home, `id-${type}-${flags.length}`);
      await run('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', key]);
      await appendFile(keys, await readFile(`${key}.pub`));
      const { code } = await ssh(await withKey(world, key), [...flags, BOX, 'true']);
      strictEqual(code, wanted, `${type} ${flags.join(' ')}`);
    }
  });
  await steps.check('a name that means nothing, and one that can mean several', async () => {
    match((await ssh(world, ['nobody.default.caisson', 'true'])).stderr, /nothing of the name "nobody.default" runs/);
    match(
      (await ssh(world, ['streams.default.caisson', 'true'])).stderr,
      /can mean: (box|tools)\.streams\.default .*, (box|tools)\.streams\.default/,
    );
  });
  await steps.check('a gateway that has another key than it had', async () => {
    const other = join(home, 'other_hosts');
    await writeFile(other, `caisson ${(await readFile(join(home, 'stranger.pub'), 'utf8')).trim()}\n`);
    const { stderr, code } = await ssh(world, ['-o', `UserKnownHostsFile=${other}`, BOX, 'true']);
    match(stderr, /HOST IDENTIFICATION HAS CHANGED|Host key verification failed/);
    strictEqual(code, 255);
  });
  await steps.check('each channel is in the log with its key', async () => {
    const lines = (await daemon.log()).split('\n').filter((line) => line.includes('ssh channel ended'));
    ok(lines.length > 20);
    for (const line of lines) match(line, /"key":"SHA256:[^"]+".*"target":"[^"]+"/);
  });
}
