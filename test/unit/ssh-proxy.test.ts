import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeTree } from '../../src/lib/files.ts';
import { runCli, startCli } from '../support/cli.ts';
import { temporaryDirectory } from '../support/temporary.ts';

describe('caisson ssh-proxy', { timeout: 60_000 }, () => {
  it('joins its streams to the gateway, behind a line with the target', async () => {
    await using gateway = await listen((socket) => {
      socket.resume().once('data', (first: Buffer) => socket.write(`>${first.toString()}`));
    });
    const { child, ended, printed } = startCli(['ssh-proxy', '--gateway', gateway.path, 'web.default.caisson']);
    await printed(/^>CAISSON-TARGET web\.default\n/);
    for (const socket of gateway.sockets) socket.on('data', (chunk) => socket.end(`and ${chunk.toString()}`));
    child.stdin.write('SSH');
    const { code, stdout, stderr } = await ended;
    assert.deepEqual([code, stdout, stderr], [0, '>CAISSON-TARGET web.default\nand SSH', '']);
  });

  it('ends with the gateway, also when that breaks the connection off with something unread', async () => {
    await using gateway = await listen((socket) => {
      // so that what the proxy says is there, and is not read
      void sleep(300).then(() => socket.destroy());
    });
    // its own input stays open, as ssh's does
    const { ended } = startCli(['ssh-proxy', '--gateway', gateway.path, 'web.default.caisson']);
    assert.deepEqual(await ended, { code: 0, stdout: '', stderr: '' });
  });

  it('says that there is no gateway, and that a name means nothing', async () => {
    const { code, stderr } = await runCli(['ssh-proxy', '--gateway', '/no/such/socket', 'caisson']);
    assert.equal(code, 1);
    assert.match(stderr, /cannot reach the ssh gateway at \/no\/such\/socket[^]*enabled = true/);
    await using gateway = await listen(() => undefined);
    assert.match((await runCli(['ssh-proxy', '--gateway', gateway.path, 'a b'])).stderr, /"a b" names no container/);
  });
});

async function listen(onSocket: (socket: Socket) => void) {
  await using undo = new AsyncDisposableStack();
  const directory = await temporaryDirectory();
  undo.defer(() => removeTree(directory));
  const sockets = new Set<Socket>();
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  const path = join(directory, 'ssh.sock');
  await once(server.listen(path), 'listening');
  undo.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const owned = undo.move();
  return { path, sockets, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
