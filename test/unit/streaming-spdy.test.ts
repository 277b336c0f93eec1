import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { connectSpdy, type SpdyClient } from '../support/streaming/spdy-client.ts';
import { startServer, type TestServer } from '../support/streaming/server.ts';

const V4 = ['v4.channel.k8s.io'];
const SUCCESS = { metadata: {}, status: 'Success' };

interface Command {
  readonly client: SpdyClient;
  readonly error: number;
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

async function openCommand(server: TestServer, command: readonly string[], protocols = V4): Promise<Command> {
  const client = await connectSpdy(server.exec(command), protocols);
  const [error = 0, stdin = 0, stdout = 0, stderr = 0] = await openAll(client, ['error', 'stdin', 'stdout', 'stderr']);
  return { client, error, stdin, stdout, stderr };
}

async function openAll(client: SpdyClient, names: readonly string[]): Promise<number[]> {
  const ids: number[] = [];
  for (const streamtype of names) ids.push(await client.open({ streamtype }));
  return ids;
}

const sh = (script: string): string[] => ['sh', '-c', script];

describe('a command over SPDY', () => {
  it('gets its input, gives its output, and tells its success', async () => {
    await using server = await startServer();
    const { client, error, stdin, stdout, stderr } = await openCommand(server, sh('cat; echo problem >&2'));
    assert.match(client.answer, /X-Stream-Protocol-Version: v4\.channel\.k8s\.io/);
    client.data(stdin, 'one ');
    client.data(stdin, 'two', true);
    assert.equal(await client.whole(stdout), 'one two');
    assert.equal(await client.whole(stderr), 'problem\n');
    assert.deepEqual(JSON.parse(await client.whole(error)), SUCCESS);
    client.socket.destroy();
  });

  it('tells an exit code, before the output ends, and lets the client close', async () => {
    await using server = await startServer();
    const { client, error, stdin, stdout, stderr } = await openCommand(server, sh('echo out; exit 42'));
    assert.deepEqual(JSON.parse(await client.whole(error)), {
      metadata: {},
      status: 'Failure',
      message: 'command terminated with non-zero exit code: 42',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '42' }] },
    });
    await Promise.all([stdin, stdout, stderr].map((id) => client.whole(id)));
    const ends = client.frames.filter(({ fin }) => fin).map(({ id }) => id);
    assert.equal(ends[0], error);
    assert.deepEqual(new Set(ends), new Set([error, stdin, stdout, stderr]));
    assert.equal(
      client.frames.some(({ type }) => type === 'goAway' || type === 'rstStream'),
      false,
    );
    client.socket.end();
    await client.closed();
  });

  it('closes itself, behind a GOAWAY, when the client does not', { timeout: 20_000 }, async () => {
    await using server = await startServer();
    const { client } = await openCommand(server, ['true']);
    const ended = once(client.socket, 'end');
    await client.until((frames) => frames.some(({ type }) => type === 'goAway'));
    await ended;
    client.socket.destroy();
  });

  it('says what killed it', async () => {
    await using server = await startServer();
    const { client, error } = await openCommand(server, sh('kill -9 $$'));
    assert.match(await client.whole(error), /"message":"137"/);
    client.socket.destroy();
  });

  it('says that it cannot be started', async () => {
    await using server = await startServer();
    const { client, error } = await openCommand(server, ['/no/such/command']);
    const status = JSON.parse(await client.whole(error));
    assert.equal(status.reason, 'InternalError');
    assert.match(status.message, /no\/such\/command not found/);
    client.socket.destroy();
  });

  it('speaks text to clients before version 4, and nothing of success', async () => {
    await using server = await startServer();
    for (const protocol of ['v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io']) {
      const failed = await openCommand(server, sh('exit 3'), [protocol]);
      assert.equal(await failed.client.whole(failed.error), 'command terminated with non-zero exit code: 3');
      const good = await openCommand(server, ['true'], [protocol]);
      assert.equal(await good.client.whole(good.error), '');
      for (const { client } of [failed, good]) client.socket.destroy();
    }
  });

  it('takes the first version that the client lists, and is asked for 5 in vain', async () => {
    await using server = await startServer();
    const lists = [
      ['v5.channel.k8s.io', 'v4.channel.k8s.io'],
      ['v5.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io'],
    ];
    for (const list of lists) {
      const client = await connectSpdy(server.exec(['true']), list);
      assert.match(client.answer, /X-Stream-Protocol-Version: v4\.channel/);
      client.socket.destroy();
    }
    await assert.rejects(
      connectSpdy(server.exec(['true']), ['v5.channel.k8s.io']),
      /403 Forbidden[^]*X-Accepted-Stream-Protocol-Versions: .*v4/,
    );
    await assert.rejects(connectSpdy(server.exec(['true']), []), /400 Bad Request/);
  });

  it('follows the terminal size', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(sh('read line; echo $line'), { tty: true, stderr: false }), V4);
    const [, stdin = 0, stdout = 0, resize = 0] = await openAll(client, ['error', 'stdin', 'stdout', 'resize']);
    client.data(resize, '{"Width":80,"Hei');
    client.data(resize, 'ght":24}\n{"Width":0,"Height":1}{"Width":"x"}nonsense}{"Width":132,"Height":43}');
    client.data(stdin, 'done\n');
    assert.equal(await client.whole(stdout), 'done\n');
    assert.deepEqual(server.streams.sizes, [
      { columns: 80, rows: 24 },
      { columns: 132, rows: 43 },
    ]);
    client.socket.destroy();
  });

  it('starts a command in a terminal of the size that the client tells first', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(sh('echo "$COLUMNS"'), { tty: true, stderr: false }), V4);
    const [, , stdout = 0, resize = 0] = await openAll(client, ['error', 'stdin', 'stdout', 'resize']);
    client.data(resize, '{"Width":132,"Height":43}');
    assert.equal(await client.whole(stdout), '132\n');
    client.socket.destroy();
  });

  it('starts a command in a terminal also when the client tells no size', async () => {
    await using server = await startServer();
    const client = await connectSpdy(server.exec(sh('echo "${COLUMNS-none}"'), { tty: true, stderr: false }), V4);
    const [, , stdout = 0] = await openAll(client, ['error', 'stdin', 'stdout', 'resize']);
    assert.equal(await client.whole(stdout), 'none\n');
    client.socket.destroy();
  });

  it('answers pings at once, and each reply is right', async () => {
    await using server = await startServer();
    const { client } = await openCommand(server, ['cat']);
    client.ping(7);
    await client.until((frames) => frames.some(({ type, id }) => type === 'ping' && id === 7));
    const replies = client.frames.filter(({ type }) => type === 'synReply');
    assert.deepEqual(
      replies.map(({ id }) => id),
      [1, 3, 5, 7],
    );
    for (const { data } of replies) assert.deepEqual(await client.unpackReply(data), Buffer.alloc(4));
    client.socket.destroy();
  });

  it('leaves the process when the client is gone', async () => {
    const server = await startServer();
    for (const command of ['cat', 'yes', 'sleep 1000']) {
      const { client } = await openCommand(server, sh(command));
      await server.streams.settled(1);
      client.socket.destroy();
      await server.streams.settled(0);
    }
    await server[Symbol.asyncDispose]();
    const outcomes = server.log
      .filter(({ message }) => message === 'stream ended')
      .map(({ fields }) => fields['outcome']);
    assert.deepEqual(outcomes, ['the client left', 'the client left', 'the client left']);
  });

  it('tells a client that the VM has died', async () => {
    await using server = await startServer();
    const { client, error, stdout } = await openCommand(server, sh('echo started; sleep 1000'));
    await client.until(() => client.sofar(stdout) === 'started\n');
    server.streams.killVm();
    assert.match(
      await client.whole(error),
      /InternalError.*the VM of the pod has died|the VM of the pod has died.*InternalError/,
    );
    client.socket.destroy();
  });

  it('reads a process no faster than the client reads', async () => {
    await using server = await startServer();
    const { client, stdout } = await openCommand(server, ['yes']);
    await client.until(() => client.sofar(stdout).length > 0);
    client.socket.pause();
    const [session] = server.streams.sessions;
    assert.ok(session?.stdout);
    const { stdout: source } = session;
    while (source.readableFlowing) await once(source, 'pause');
    assert.ok(source.readableLength < 1_000_000);
    assert.ok(client.socket.bytesRead < 20_000_000, `${client.socket.bytesRead} bytes without a reader`);
    client.socket.resume();
    await once(source, 'resume');
    client.socket.destroy();
    await server.streams.settled(0);
  });

  it('loses nothing to a slow reader whose command has ended', async () => {
    await using server = await startServer();
    const { client, error, stdout } = await openCommand(server, sh('head -c 30000000 /dev/zero; exit 5'));
    await client.until(() => client.sofar(stdout).length > 0);
    client.socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 500));
    client.socket.resume();
    assert.equal((await client.whole(stdout)).length, 30_000_000);
    assert.match(await client.whole(error), /"message":"5"/);
    client.socket.destroy();
  });

  it('takes no more input than the process does', async () => {
    await using server = await startServer();
    const { client, stdin } = await openCommand(server, ['sleep', '1000']);
    await server.streams.settled(1);
    const chunk = Buffer.alloc(65_536);
    // the pipe, the server and the kernel's buffers hold some MiB; then it stands still
    while (client.socket.writableLength < 4_000_000) {
      client.data(stdin, chunk);
      await new Promise((resolve) => setImmediate(resolve));
      assert.ok(client.socket.bytesWritten < 100_000_000);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.ok(client.socket.writableLength > 0);
    client.socket.destroy();
  });

  it('drops input that the process does not want', async () => {
    await using server = await startServer();
    const { client, stdin, error } = await openCommand(server, sh('exec <&-; echo closed >&2; sleep 0.2'));
    for (let i = 0; i < 100; i++) client.data(stdin, Buffer.alloc(65_536));
    client.data(stdin, '', true);
    assert.deepEqual(JSON.parse(await client.whole(error)), SUCCESS);
    client.socket.destroy();
  });
});
