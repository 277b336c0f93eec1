import { status } from '@grpc/grpc-js';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmod, lstat, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { orAborted } from '../../src/lib/async.ts';
import { isCaissonError } from '../../src/lib/errors.ts';
import { connectCri } from '../../src/lib/grpc/cri-client.ts';
import { startServer } from './cri-fakes.ts';

const metadata = { name: 'n', namespace: 's', uid: 'u' };
const run = { config: { metadata } };

/** A runSandbox that never ends by itself, and how its signal aborted. */
function hanging() {
  const started = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<unknown>();
  const runSandbox = (_config: object, _handler: string, signal: AbortSignal): Promise<string> => {
    signal.addEventListener('abort', () => aborted.resolve(signal.reason), { once: true });
    started.resolve();
    return orAborted(new Promise<string>(() => {}), signal);
  };
  return { pods: { runSandbox }, started: started.promise, aborted: aborted.promise };
}

async function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'caisson-cri-'));
}

test('a cancelled call aborts the signal as cancelled', async () => {
  const { pods, started, aborted } = hanging();
  await using cri = await startServer({ pods });
  const client = new AbortController();
  const call = cri.runtime.RunPodSandbox(run, { signal: client.signal });
  await started;
  client.abort();
  await assert.rejects(call, { code: status.CANCELLED });
  assert.ok(isCaissonError(await aborted, 'cancelled'));
});

test('a deadline aborts the signal as deadline_exceeded', async () => {
  const { pods, aborted } = hanging();
  await using cri = await startServer({ pods });
  await assert.rejects(cri.runtime.RunPodSandbox(run, { deadlineMs: 200 }), { code: status.DEADLINE_EXCEEDED });
  assert.ok(isCaissonError(await aborted, 'deadline_exceeded'));
});

test('a client that is killed aborts the signal', async () => {
  const { pods, started, aborted } = hanging();
  await using cri = await startServer({ pods });
  const module = join(import.meta.dirname, '../../src/lib/grpc/cri-client.ts');
  const script = `import { connectCri } from ${JSON.stringify(module)};
    await connectCri(${JSON.stringify(cri.socketPath)}).runtime.RunPodSandbox(${JSON.stringify(run)});`;
  const client = spawn(process.execPath, ['--input-type=module', '-e', script]);
  await started;
  client.kill('SIGKILL');
  assert.ok(isCaissonError(await aborted, 'cancelled'));
});

test('a call that went well does not abort its signal with a later cancellation', async () => {
  const signals: AbortSignal[] = [];
  const startContainer = async (_id: string, signal: AbortSignal) => void signals.push(signal);
  await using cri = await startServer({ pods: { startContainer } });
  await cri.runtime.StartContainer({ container_id: 'c' });
  await cri.runtime.Version();
  assert.equal(signals[0]?.aborted, false);
});

test('the socket is for its owner, its new directory can be passed through', async () => {
  await using cri = await startServer();
  const socket = await lstat(cri.socketPath);
  assert.ok(socket.isSocket());
  assert.equal(socket.mode & 0o777, 0o600);
  assert.equal((await stat(dirname(cri.socketPath))).mode & 0o777, 0o711);
  assert.deepEqual(await readdir(dirname(cri.socketPath)), ['caisson.sock']);
});

test('a directory that was there keeps its mode', async () => {
  const directory = await temporaryDirectory();
  await chmod(directory, 0o755);
  {
    await using _cri = await startServer({ socketPath: join(directory, 'x.sock') });
    assert.equal((await stat(directory)).mode & 0o777, 0o755);
  }
  assert.deepEqual(await readdir(directory), []);
  await rm(directory, { recursive: true });
});

test('a second daemon is refused and leaves the first alone', async () => {
  await using cri = await startServer();
  const second = startServer({ socketPath: cri.socketPath });
  await assert.rejects(second, (error) => {
    assert.ok(isCaissonError(error, 'failed_precondition'));
    assert.equal(error.message, `another caisson serves on ${cri.socketPath}`);
    return true;
  });
  assert.equal((await cri.runtime.Version()).runtime_name, 'caisson');
});

test('the socket of a killed daemon is replaced', async () => {
  const directory = await temporaryDirectory();
  const socketPath = join(directory, 'x.sock');
  const listen = `require('net').createServer().listen(${JSON.stringify(socketPath)}`;
  const script = `${listen}, () => process.kill(process.pid, 9))`;
  spawnSync(process.execPath, ['-e', script]);
  assert.ok((await lstat(socketPath)).isSocket());
  {
    await using cri = await startServer({ socketPath });
    assert.equal((await cri.runtime.Version()).runtime_name, 'caisson');
  }
  await rm(directory, { recursive: true });
});

test('a file that is no socket is not replaced', async () => {
  const directory = await temporaryDirectory();
  const socketPath = join(directory, 'x.sock');
  await writeFile(socketPath, 'precious');
  await assert.rejects(startServer({ socketPath }), { message: `${socketPath} is in the way: it is not a socket` });
  assert.ok((await lstat(socketPath)).isFile());
  await rm(directory, { recursive: true });
});

test('a path too long for a socket is refused in words', async () => {
  const directory = await temporaryDirectory();
  const socketPath = join(directory, 'x'.repeat(100));
  await assert.rejects(startServer({ socketPath }), { code: 'invalid_argument' });
  assert.deepEqual(await readdir(directory), []);
  await rm(directory, { recursive: true });
});

test('shutdown lets a running call finish, and the socket is gone', async () => {
  const { promise: go, resolve } = Promise.withResolvers<void>();
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const startContainer = () => {
    start();
    return go;
  };
  const cri = await startServer({ pods: { startContainer }, shutdownGraceMs: 10_000 });
  const { runtime, close } = connectCri(cri.socketPath);
  const call = runtime.StartContainer({ container_id: 'c' });
  await started;
  const disposed = cri[Symbol.asyncDispose]();
  resolve();
  assert.deepEqual(await call, {});
  await disposed;
  await assert.rejects(lstat(cri.socketPath), { code: 'ENOENT' });
  close();
});

test('shutdown cancels what still runs after the grace', async () => {
  const { pods, started, aborted } = hanging();
  const cri = await startServer({ pods, shutdownGraceMs: 50 });
  const { runtime, close } = connectCri(cri.socketPath);
  const call = assert.rejects(runtime.RunPodSandbox(run), /UNAVAILABLE|CANCELLED/);
  await started;
  await cri[Symbol.asyncDispose]();
  await call;
  assert.ok(isCaissonError(await aborted, 'cancelled'));
  close();
});

test('shutdown leaves the socket of a successor alone', async () => {
  const cri = await startServer();
  await rm(cri.socketPath);
  const successor = createServer();
  await new Promise<void>((resolve) => successor.listen(cri.socketPath, resolve));
  const { ino } = await lstat(cri.socketPath);
  // the fake's own directory goes with it, so look before that
  const { socketPath } = cri;
  const gone = cri[Symbol.asyncDispose]();
  assert.equal((await lstat(socketPath)).ino, ino);
  successor.close();
  await gone;
});

test('each call is logged once, changes at info, without credentials and environment', async () => {
  const secret = 'hunter2-do-not-log';
  await using cri = await startServer({
    pods: { createContainer: () => Promise.resolve('c'), startContainer: () => Promise.resolve() },
    images: { pull: () => Promise.reject(new Error('broken pipe')) },
  });
  await cri.runtime.ListContainers();
  const envs = [{ key: 'PASSWORD', value: Buffer.from(secret) }];
  const config = { metadata: { name: 'app' }, image: { image: 'nginx' }, envs };
  await cri.runtime.CreateContainer({ pod_sandbox_id: 'p', config });
  const auth = { username: 'u', password: secret, auth: secret, identity_token: secret, registry_token: secret };
  await assert.rejects(cri.image.PullImage({ image: { image: 'nginx' }, auth }));
  await assert.rejects(cri.runtime.ContainerStatus({ container_id: 'zz' }));

  const lines = cri.logged.filter(({ fields }) => 'rpc' in fields);
  assert.deepEqual(
    lines.map(({ level, message }) => [level, message]),
    [
      ['debug', 'ListContainers done'],
      ['info', 'CreateContainer done'],
      ['error', 'PullImage failed'],
      ['debug', 'ContainerStatus failed'],
    ],
  );
  assert.ok(lines.every(({ fields }) => typeof fields['durationMs'] === 'number'));
  const { durationMs: _, ...created } = lines[1]?.fields ?? {};
  assert.deepEqual(created, { rpc: 'CreateContainer', sandboxId: 'p', name: 'app' });
  const encoded = Buffer.from(secret).toString('base64');
  const everything = JSON.stringify(cri.logged);
  assert.ok(!everything.includes(secret) && !everything.includes(encoded));
});
