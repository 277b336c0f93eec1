import { deepStrictEqual, doesNotMatch, match, notStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { join } from 'node:path';
import { readFile, rename } from 'node:fs/promises';
import { eventually } from '../../support/steps.ts';
import type { ContainerInspection, ContainerList } from './output.ts';
import type { Pod } from './pod.ts';
import { BUSYBOX, configFile, containerConfig, WEB, type World } from './world.ts';

/** Ids of the containers that run. */
export interface Containers {
  readonly web: string;
  readonly shell: string;
}

/** Says something on both streams, then waits for SIGTERM or an order. */
const SCRIPT = `
echo "to stdout from $(hostname)"
echo "to stderr with $GREETING" >&2
trap 'echo terminated; exit 3' TERM
while :; do
  [ ! -e /tmp/order ] || { cat /tmp/order; rm /tmp/order; }
  sleep 0.2
done`;

const SHELL_YAML = `
metadata: { name: shell, attempt: 2 }
image: { image: "${BUSYBOX}" }
command: [sh, -c]
args:
  - |
${SCRIPT.replaceAll(/^/gm, '    ')}
working_dir: /tmp
envs: [{ key: GREETING, value: "hello, world" }]
labels: { role: client, io.kubernetes.pod.name: first-pod, io.kubernetes.pod.namespace: crictl }
annotations: { why: "a test, of course" }
log_path: shell.log
linux: {}
`;

export async function createContainers(world: World, pod: Pod): Promise<Containers> {
  const { steps, crictl, web: webImage } = world;
  const create = async (file: string): Promise<string> => {
    const id = await crictl.ok('create', pod.id, file, pod.config);
    match(id, /^[\da-f]{64}$/);
    return id;
  };
  const webFile = await configFile(world, 'web.json', containerConfig('web', WEB, [], { labels: { role: 'server' } }));
  const web = await steps.need('create, JSON, the command of the image', () => create(webFile));
  const shell = await steps.need('create, YAML', async () => create(await configFile(world, 'shell.yaml', SHELL_YAML)));
  await steps.check('create again with the same name: AlreadyExists', async () => {
    await crictl.fails(/AlreadyExists.*web/, 'create', pod.id, webFile, pod.config);
  });
  await steps.check('create from an image that was not pulled: NotFound, which names it', async () => {
    const file = await configFile(world, 'missing.json', containerConfig('missing', 'docker.io/library/nothing:1', []));
    await crictl.fails(/NotFound.*docker\.io\/library\/nothing:1/, 'create', pod.id, file, pod.config);
  });
  await steps.check('create in an unknown pod: NotFound', async () => {
    await crictl.fails(/NotFound.*0123456789/, 'create', '0123456789', webFile, pod.config);
  });
  await steps.check('ps -a shows them as created, ps does not', async () => {
    const { containers } = await crictl.json<ContainerList>('ps', '-a');
    deepStrictEqual(containers.map(({ id }) => id).toSorted(), [web, shell].toSorted());
    ok(containers.every(({ state, podSandboxId }) => state === 'CONTAINER_CREATED' && podSandboxId === pod.id));
    await crictl.lists([], 'ps');
  });
  await steps.check('exec in a container that was not started: FailedPrecondition', async () => {
    await crictl.fails(/FailedPrecondition.*created/, 'exec', '-s', shell, 'true');
  });

  await steps.need('start two at once', async () => {
    const printed = await crictl.ok('start', web, shell);
    deepStrictEqual(printed.split('\n').toSorted(), [web, shell].toSorted());
  });
  await steps.check('start again: FailedPrecondition', async () => {
    await crictl.fails(/FailedPrecondition.*running/, 'start', web);
  });
  await steps.check('ps by state, label, name, image and pod', async () => {
    await crictl.lists([web, shell], 'ps');
    await crictl.lists([web, shell], 'ps', '--state', 'running', '--pod', pod.id.slice(0, 13));
    await crictl.lists([shell], 'ps', '--label', 'role=client');
    await crictl.lists([web], 'ps', '--name', '^we');
    await crictl.lists([web], 'ps', '--image', WEB);
    await crictl.lists([shell], 'ps', '--id', shell.slice(0, 12));
    await crictl.lists([], 'ps', '--state', 'exited');
    match(await crictl.ok('ps'), /^[\da-f]{13} .* Running +shell +2 +[\da-f]{13} +first-pod +crictl/m);
  });
  await steps.check('inspect', async () => {
    const { status } = await crictl.json<ContainerInspection>('inspect', shell);
    strictEqual(status.state, 'CONTAINER_RUNNING');
    deepStrictEqual(status.metadata, { name: 'shell', attempt: 2 });
    strictEqual(status.image.image, BUSYBOX);
    strictEqual(status.imageRef, world.busybox.configDigest);
    strictEqual(status.labels['role'], 'client');
    deepStrictEqual(status.annotations, { why: 'a test, of course' });
    strictEqual(status.logPath, join(world.daemon.dir, 'logs/first-pod/shell.log'));
    ok(Date.parse(status.createdAt) <= Date.parse(status.startedAt));
  });
  await steps.check('inspect by a part of the id as go-template, YAML and table', async () => {
    const template = '{{.status.metadata.name}} {{.status.state}}';
    const printed = await crictl.ok('inspect', '--output', 'go-template', '--template', template, web.slice(0, 8));
    strictEqual(printed, 'web CONTAINER_RUNNING');
    match(await crictl.ok('inspect', '-o', 'yaml', web), new RegExp(`^  imageRef: ${webImage.configDigest}$`, 'm'));
    match(await crictl.ok('inspect', '-o', 'table', web), /^State: CONTAINER_RUNNING$/m);
  });
  await steps.check('inspect of an unknown id: NotFound', async () => {
    await crictl.fails(/NotFound.*0123456789/, 'inspect', '0123456789');
  });
  return { web, shell };
}

export async function execAndLogs(world: World, pod: Pod, { shell, web }: Containers): Promise<void> {
  const { steps, crictl, daemon } = world;
  const exec = (...command: string[]): Promise<string> => crictl.ok('exec', '-s', shell, ...command);
  await steps.check('exec -s: output of both streams', async () => {
    const { stdout, exitCode } = await crictl.run('exec', '-s', shell, 'sh', '-c', 'echo one; echo two >&2');
    strictEqual(stdout, 'one\n\ntwo\n\n'); // crictl prints stdout, then stderr, with a line feed after each
    strictEqual(exitCode, 0);
  });
  await steps.check('exec -s of a failing command: its exit code', async () => {
    await crictl.fails(/exited with 42/, 'exec', '-s', shell, 'sh', '-c', 'exit 42');
  });
  await steps.check('exec -s of a command that is not there fails and names it', async () => {
    await crictl.fails(/no-such-command/, 'exec', '-s', shell, 'no-such-command');
  });
  await steps.check('exec -s with a timeout: DeadlineExceeded, and the command is dead', async () => {
    await crictl.fails(/DeadlineExceeded/, 'exec', '-s', '--timeout', '1', shell, 'sleep', '4321');
    doesNotMatch(await exec('ps'), /sleep 4321/);
  });
  await steps.check('exec -s in an unknown container: NotFound', async () => {
    await crictl.fails(/NotFound/, 'exec', '-s', '0123456789', 'true');
  });
  await steps.check('environment, directory, host name and resolver are those that were asked for', async () => {
    const script = 'echo "$GREETING|$(pwd)|$(hostname)"; cat /etc/resolv.conf';
    const printed = await exec('sh', '-c', script);
    match(printed, /^hello, world\|\/tmp\|first-pod$/m);
    match(printed, /^nameserver 192\.0\.2\.53$/m);
    match(printed, /^search test\.example$/m);
  });
  await steps.check('the kernel is another than that of the host', async () => {
    const bootId = '/proc/sys/kernel/random/boot_id';
    const inside = (await exec('cat', bootId)).trim();
    match(inside, /^[\da-f-]{36}$/);
    notStrictEqual(inside, (await readFile(bootId, 'utf8')).trim());
  });
  await steps.check('one container does not see the files of another', async () => {
    await exec('sh', '-c', 'echo secret > /only-here && echo secret > /tmp/only-here');
    await crictl.fails(/exited with 1/, 'exec', '-s', web, 'cat', '/only-here');
    await crictl.fails(/exited with 1/, 'exec', '-s', web, 'cat', '/tmp/only-here');
    await crictl.fails(/exited with 1/, 'exec', '-s', shell, 'ls', '/www');
  });

  const log = join(daemon.dir, 'logs/first-pod/shell.log');
  await steps.check('logs: both streams, one of them, the last line, timestamps', async () => {
    const { stdout, stderr } = await eventually(async () => {
      const answer = await crictl.run('logs', shell);
      match(answer.stderr, /to stderr/);
      return answer;
    });
    strictEqual(stdout, 'to stdout from first-pod\n');
    strictEqual(stderr, 'to stderr with hello, world\n');
    strictEqual(await crictl.ok('logs', '--stream', 'stdout', shell), 'to stdout from first-pod');
    match((await crictl.run('logs', '--tail', '1', '--timestamps', shell)).stderr, /^\d{4}-\S+Z? to stderr/);
  });
  await steps.check('logs --reopen after a rotation', async () => {
    await rename(log, `${log}.1`);
    await crictl.ok('logs', '--reopen', shell);
    await exec('sh', '-c', 'echo after the rotation > /tmp/order');
    await eventually(async () => strictEqual(await crictl.ok('logs', shell), 'after the rotation'));
  });
  await steps.check('a line of 40000 bytes comes back whole', async () => {
    await exec('sh', '-c', 'head -c 40000 /dev/zero | tr "\\0" x > /tmp/new; echo >> /tmp/new; mv /tmp/new /tmp/order');
    await eventually(async () => ok((await crictl.ok('logs', shell)).split('\n').includes('x'.repeat(40_000))));
  });
  await steps.check('logs --follow of a short container: every line, and it ends with it', async () => {
    const script = 'for i in 1 2 3; do echo $i; sleep 0.3; done; printf unended';
    const file = await configFile(world, 'short.json', containerConfig('short', BUSYBOX, ['sh', '-c', script]));
    const short = await crictl.ok('create', pod.id, file, pod.config);
    await crictl.ok('start', short);
    strictEqual(await crictl.ok('logs', '--follow', short), '1\n2\n3\nunended');
    await crictl.ok('rm', short);
  });
}

export async function stopContainers({ steps, crictl }: World, { shell, web }: Containers): Promise<void> {
  await steps.check('rm of a running container is refused by crictl', async () => {
    await crictl.fails(/is running, please stop it first/, 'rm', shell);
  });
  await steps.check('stop: the container gets its signal and its time', async () => {
    strictEqual(await crictl.ok('stop', '--timeout', '20', shell), shell);
    const { status } = await crictl.json<ContainerInspection>('inspect', shell);
    strictEqual(status.state, 'CONTAINER_EXITED');
    strictEqual(status.exitCode, 3);
    strictEqual(status.reason, 'Error');
    ok(Date.parse(status.startedAt) < Date.parse(status.finishedAt));
    match(await crictl.ok('logs', shell), /^terminated$/m);
  });
  await steps.check('stop again, and stop of what is not there, are fine', async () => {
    await crictl.ok('stop', shell);
    await crictl.ok('stop', '0123456789');
  });
  await steps.check('ps -a by state; ps', async () => {
    await crictl.lists([shell], 'ps', '-a', '--state', 'exited');
    await crictl.lists([web], 'ps');
  });
  await steps.check('start of a container that has ended: FailedPrecondition', async () => {
    await crictl.fails(/FailedPrecondition.*exited/, 'start', shell);
  });
  await steps.check('rm', async () => {
    strictEqual(await crictl.ok('rm', shell), shell);
    await crictl.lists([web], 'ps', '-a');
    await crictl.fails(/NotFound/, 'inspect', shell);
  });
  await steps.check('rm again: NotFound', async () => {
    await crictl.fails(/NotFound/, 'rm', shell);
  });
}
