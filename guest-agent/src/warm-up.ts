import { closeSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync, writeSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { credentials } from '@grpc/grpc-js';
import { rehearse } from './rehearsal.ts';
import { mount, unmount } from './native.ts';
import { loadAgent } from './server.ts';

const SOCKET = '/run/caisson-warm-up.sock';
const ZEROS = '/run/caisson-zeros';
const ROUNDS = 3;

/**
 * What every clone would do first is done once, here: code is compiled, programs and libraries are read. Everything
 * else in memory goes, because each page that a clone does not have is one that need not be copied.
 */
export async function warmUp(serve: (socket: Socket) => void): Promise<void> {
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  await callMyself(serve);
  zeroFreeMemory();
}

/** left for the kernel and the agent */
const RESERVE_BYTES = 6 * 1024 * 1024;

/** What is free still holds what was there before; once it is zero it need not be copied into each clone. */
function zeroFreeMemory(): void {
  const [, kib = '0'] = /^MemFree: +(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
  mkdirSync(ZEROS);
  mount('zeros', ZEROS, 'tmpfs', 0, 'size=100%');
  const fd = openSync(`${ZEROS}/file`, 'w');
  const block = Buffer.alloc(64 * 1024);
  for (let left = Number(kib) * 1024 - RESERVE_BYTES; left > 0; left -= block.length) writeSync(fd, block);
  closeSync(fd);
  unmount(ZEROS);
  rmdirSync(ZEROS);
}

async function callMyself(serve: (socket: Socket) => void): Promise<void> {
  const listener = createServer(serve);
  await new Promise<void>((resolve) => listener.listen(SOCKET, resolve));
  const Agent = loadAgent();
  const stub = new Agent(`unix:${SOCKET}`, credentials.createInsecure());
  for (let round = 0; round < ROUNDS; round++) {
    await new Promise<void>((resolve, reject) => {
      // not GetInfo: the kernel makes its boot id at the first reading, and each clone shall have its own
      stub.GetStats({}, (error) => (error ? reject(error) : resolve()));
    });
    // unknown on purpose: it takes the way of every error
    await new Promise<void>((resolve) => stub.StartContainer({ id: 'warm-up' }, () => resolve()));
  }
  await rehearse(stub);
  stub.close();
  await new Promise<void>((resolve) => {
    listener.close(() => resolve());
    createConnection(SOCKET)
      .on('error', () => undefined)
      .destroy();
  });
}
