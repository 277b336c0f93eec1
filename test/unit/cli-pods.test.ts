import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CaissonError } from '../../src/lib/errors.ts';
import type { ContainerView, PodEvent, SandboxView } from '../../src/pod/contracts.ts';
import { runCli, startCli, startOnTerminal, type CliEnd } from '../support/cli.ts';
import { CONTAINER } from '../support/streaming/fake-streams.ts';
import * as streaming from '../support/streaming/server.ts';
import { askTcp, countTcp, deafPort, listenTcp } from '../support/streaming/tcp.ts';
import * as cri from './cri-fakes.ts';

const pod: SandboxView = { ...cri.sandboxView, id: 'pod' };
const box: ContainerView = {
  ...cri.containerView,
  id: CONTAINER,
  sandboxId: 'pod',
  state: 'running',
  info: { tty: false, stdin: true },
};

let streams: streaming.TestServer;
let directory: string;
let stack: AsyncDisposableStack;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  directory = await mkdtemp(join(tmpdir(), 'caisson-cli-'));
  stack.defer(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'c.toml'), '');
});
afterEach(() => stack.disposeAsync());

/** A daemon whose pod `web` of namespace `shop` has the container `nginx`. Returns the options that lead to it. */
async function serve(container = box, pods: Parameters<typeof cri.startServer>[0] = {}): Promise<string[]> {
  streams = stack.use(await streaming.startServer());
  const server = stack.use(
    await cri.startServer({
      streaming: streams.server,
      ...pods,
      pods: {
        sandboxes: () => [pod],
        sandbox: () => pod,
        containers: () => [container],
        container: () => container,
        ...pods.pods,
      },
    }),
  );
  return ['--config', join(directory, 'c.toml'), '--socket', server.socketPath];
}

const exec = async (args: readonly string[], input?: string | Buffer): Promise<CliEnd> =>
  runCli([...(await serve()), 'exec', ...args], input);

describe('caisson exec', () => {
  it('carries both outputs and the exit code', async () => {
    assert.deepEqual(await exec(['web', 'sh', '-c', 'echo out; echo err >&2; exit 7']), {
      code: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  it('passes stdin on to its end, if asked', async () => {
    assert.partialDeepStrictEqual(await exec(['-i', 'web/nginx', 'cat'], 'hello'), { code: 0, stdout: 'hello' });
    assert.partialDeepStrictEqual(await exec(['web', 'cat'], 'hello'), { code: 0, stdout: '' });
  });

  it('loses nothing of much output, however slow its reader', async () => {
    const { child, ended } = startCli([...(await serve()), 'exec', 'web', 'head', '-c', '33554432', '/dev/zero']);
    child.stdout.pause();
    await streams.streams.settled(1);
    child.stdout.resume();
    const { code, stdout } = await ended;
    assert.equal(code, 0);
    assert.equal(
      createHash('md5').update(stdout).digest('hex'),
      createHash('md5').update(Buffer.alloc(33554432)).digest('hex'),
    );
  });

  it('tells by its exit code what was wrong', async () => {
    const missing = await exec(['web', 'no-such-command']);
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /^caisson: executable file no-such-command not found/);
    const nowhere = await exec(['nowhere', 'true']);
    assert.equal(nowhere.code, 125);
    assert.match(nowhere.stderr, /there is no pod or container "nowhere"\n {2}to fix it: `caisson ps -a`/);
    assert.equal((await exec(['web', 'sh', '-c', 'kill -TERM $$'])).code, 143);
  });

  it('says so when the VM dies', async () => {
    const { ended } = startCli([...(await serve()), 'exec', 'web', 'sleep', '100']);
    await streams.streams.settled(1);
    streams.streams.killVm();
    assert.deepEqual(await ended, { code: 125, stdout: '', stderr: 'caisson: the VM of the pod has died\n' });
  });

  it('says so when the daemon is lost', async () => {
    const { ended } = startCli([...(await serve()), 'exec', 'web', 'sleep', '100']);
    await streams.streams.settled(1);
    await streams.server[Symbol.asyncDispose]();
    const { code, stderr } = await ended;
    assert.deepEqual([code, stderr], [125, 'caisson: the connection was lost before the command ended\n']);
  });

  it('takes its command with it when it is told to end', async () => {
    const { child, ended } = startCli([...(await serve()), 'exec', '-i', 'web', 'sleep', '100']);
    await streams.streams.settled(1);
    child.kill('SIGTERM');
    assert.equal((await ended).code, 143);
    await streams.streams.settled(0);
  });

  it('tells the size of its terminal and of each change, types what is typed, and restores it', async () => {
    const args = [...(await serve()), 'exec', '-it', 'web', 'cat'];
    const { child, ended, printed } = startOnTerminal(args, 'stty rows 30 cols 100; tty');
    const [, terminal = ''] = await printed(/(\/dev\/pts\/\d+)/);
    await streams.streams.settled(1);
    // through the raw terminal: a Ctrl-C is a byte like any other
    child.stdin.write('a\u0003b');
    await printed(/a\u0003b/);
    execFileSync('stty', ['-F', terminal, 'cols', '77']);
    child.stdin.write('c');
    await printed(/b.*c/s);
    while (streams.streams.sizes.length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(streams.streams.sizes, [
      { columns: 100, rows: 30 },
      { columns: 77, rows: 30 },
    ]);
    streams.streams.killVm();
    const { code, stdout } = await ended;
    assert.equal(code, 125);
    assert.match(stdout, /\nrestored/);
  });
});

describe('caisson attach', () => {
  it("joins the container and ends with the container's code", async () => {
    const ended: ContainerView = { ...box, state: 'exited', exitCode: 9 };
    const options = await serve(box, {
      pods: {
        container: () => (streams.streams.sessions.size > 0 || !attached ? box : ended),
        events: async function* () {
          yield event('stopped', ended);
        },
      },
    });
    let attached = false;
    const { child, ended: over, printed } = startCli([...options, 'attach', 'web']);
    await streams.streams.settled(1);
    attached = true;
    child.stdin.write('hello\n');
    await printed(/hello/);
    child.stdin.end();
    assert.deepEqual(await over, { code: 9, stdout: 'hello\n', stderr: '' });
  });

  it('leaves by ctrl-p ctrl-q, and the container goes on', async () => {
    const options = await serve({ ...box, info: { tty: true, stdin: true } });
    const { child, ended, printed } = startOnTerminal([...options, 'attach', 'web']);
    await streams.streams.settled(1);
    child.stdin.write('x\u0010y');
    await printed(/x\u0010y/);
    child.stdin.write('\u0010\u0011');
    const { code, stdout } = await ended;
    assert.equal(code, 0);
    assert.match(stdout, /detached; the container goes on\r\nrestored/);
    await streams.streams.settled(0);
  });
});

describe('caisson port-forward', () => {
  it('carries many connections, each with half-close, on both addresses', async () => {
    await using target = await listenTcp(countTcp);
    const { child, ended, printed } = startCli([...(await serve()), 'port-forward', 'web', `:${target.port}`]);
    const [, port] = await printed(/^127\.0\.0\.1:(\d+) -> shop\/web:\d+$/m);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => askTcp(Number(port), Buffer.alloc(i * 1000))),
    );
    assert.deepEqual(
      answers,
      Array.from({ length: 20 }, (_, i) => `${i * 1000} bytes`),
    );
    child.kill('SIGINT');
    assert.equal((await ended).code, 130);
    assert.equal(streams.streams.forwarded.size, 0);
  });

  it('resets what cannot be connected, says why, and goes on', async () => {
    const { child, ended, printed } = startCli([...(await serve()), 'port-forward', 'web', `:${await deafPort()}`]);
    const [, port] = await printed(/^127\.0\.0\.1:(\d+)/m);
    const socket = connect(Number(port), '127.0.0.1');
    const [error] = (await once(socket, 'error')) as [Error];
    assert.match(error.message, /ECONNRESET/);
    child.kill('SIGTERM');
    assert.match((await ended).stderr, /error forwarding port \d+ to pod pod: nobody listens on port/);
  });

  it('refuses what are no ports, and a port that is taken', async () => {
    const options = await serve();
    for (const ports of ['0', '80:', '70000', '1:2:3', 'http']) {
      const { code, stderr } = await runCli([...options, 'port-forward', 'web', ports]);
      assert.equal(code, 1);
      assert.match(stderr, /names no ports\n {2}to fix it: REMOTE, LOCAL:REMOTE/);
    }
    await using taken = await listenTcp(() => undefined);
    const { stderr } = await runCli([...options, 'port-forward', 'web', `${taken.port}:80`]);
    assert.match(stderr, /cannot listen on local port \d+: .*EADDRINUSE/);
  });
});

describe('caisson logs', () => {
  const line = (second: number, text: string, stream = 'stdout', tag = 'F'): string =>
    `2026-01-02T03:04:${String(second).padStart(2, '0')}.000000001Z ${stream} ${tag} ${text}\n`;
  const container = (path: string): ContainerView => ({ ...box, logPath: path });

  it('prints whole lines, both streams apart, the last ones, and those since a time', async () => {
    const path = join(directory, '0.log');
    const parts = [
      line(1, 'one'),
      line(2, 'tw', 'stdout', 'P'),
      line(3, 'e', 'stderr'),
      line(3, 'o'),
      line(4, 'three'),
    ];
    await writeFile(path, parts.join(''));
    const options = [...(await serve(container(path))), 'logs', 'web'];
    assert.deepEqual(await runCli(options), { code: 0, stdout: 'one\ntwo\nthree\n', stderr: 'e\n' });
    assert.equal((await runCli([...options, '--tail', '1'])).stdout, 'three\n');
    assert.equal((await runCli([...options, '--tail', '0'])).stdout, '');
    assert.equal((await runCli([...options, '--tail', '99'])).stdout, 'one\ntwo\nthree\n');
    assert.equal(
      (await runCli([...options, '--since', '2026-01-02T03:04:04Z', '-t'])).stdout,
      `2026-01-02T03:04:04.000000001Z three\n`,
    );
    const wrong = await runCli([...options, '--since', 'noon']);
    assert.deepEqual([wrong.code, wrong.stderr.split('\n')[0]], [1, 'caisson: "noon" is no time']);
  });

  it('follows a log across rotations until the container has ended', async () => {
    const path = join(directory, '0.log');
    await writeFile(path, line(1, 'old') + line(2, 'first'));
    const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
    const options = await serve(container(path), {
      pods: {
        events: async function* () {
          await stopped;
          yield event('stopped', { ...container(path), state: 'exited' });
        },
      },
    });
    const { ended, printed } = startCli([...options, 'logs', '-f', '--tail', '1', 'web']);
    await printed(/first/);
    await appendFile(path, line(3, 'second'));
    await printed(/second/);
    await rename(path, `${path}.1`);
    await appendFile(`${path}.1`, line(4, 'third'));
    await writeFile(path, line(5, 'fourth'));
    await printed(/fourth/);
    await appendFile(path, line(6, 'last'));
    stop();
    assert.deepEqual(await ended, { code: 0, stdout: 'first\nsecond\nthird\nfourth\nlast\n', stderr: '' });
  });

  it('ends at a signal also while it waits for a daemon that is being restarted', { timeout: 30_000 }, async () => {
    const path = join(directory, '0.log');
    await writeFile(path, line(1, 'one'));
    const { promise: lost, reject: lose } = Promise.withResolvers<PodEvent>();
    const options = await serve(container(path), {
      pods: {
        events: async function* () {
          yield await lost;
        },
      },
    });
    const { child, ended, printed } = startCli([...options, 'logs', '-f', 'web']);
    await printed(/one/);
    lose(new CaissonError('unavailable', 'the runtime is being shut down'));
    await stack.disposeAsync();
    // for a minute
    await sleep(1500);
    child.kill('SIGINT');
    assert.equal((await ended).code, 130);
  });

  it('says so when there is no log', async () => {
    const none = await runCli([...(await serve(container(''))), 'logs', 'web']);
    assert.match(none.stderr, /shop\/web\/nginx keeps no log/);
    const missing = await runCli([...(await serve(container(join(directory, 'none')))), 'logs', 'web']);
    assert.match(missing.stderr, /has no log yet/);
  });
});

describe('caisson ps', () => {
  it('shows pods and containers', async () => {
    const options = await serve();
    const { stdout } = await runCli([...options, 'ps']);
    assert.match(
      stdout,
      /^NAMESPACE +POD +POD ID +IP +CONTAINER +ID +STATE +AGE +IMAGE\nshop +web +pod +10\.88\.0\.5 +nginx +box +running +\d+\w +docker\.io\/library\/nginx:1\n$/,
    );
    const [json] = JSON.parse((await runCli([...options, 'ps', '--json'])).stdout) as object[];
    assert.partialDeepStrictEqual(json, {
      namespace: 'shop',
      name: 'web',
      state: 'ready',
      containers: [{ id: 'box', name: 'nginx' }],
    });
    assert.doesNotMatch((await runCli([...options, 'ps', '-n', 'other'])).stdout, /web/);
  });
});

function event(type: PodEvent['type'], container: ContainerView): PodEvent {
  return { id: container.id, type, timestamp: '1', sandbox: pod, containers: [container] };
}
