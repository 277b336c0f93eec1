import { closeSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { rehearse } from './rehearsal.ts';
import { mount, pageOut, unmount } from './native.ts';
import { loadContract } from './server.ts';
import { removeSmall } from './small-files.ts';
import { listenUnix } from './vsock-listener.ts';

const SOCKET = '/run/caisson-warm-up.sock';
const ZEROS = '/run/caisson-zeros';
const ROUNDS = 10;
const DEADLINE_MS = 60_000;

/**
 * What every clone would do first is done once, here: code is compiled, programs and libraries are read. Everything
 * else in memory goes, because each page that a clone does not have is one that need not be copied.
 */
export async function warmUp(serve: (socket: Socket) => void): Promise<void> {
  const readAhead = readFileSync(READ_AHEAD, 'utf8');
  writeFileSync(READ_AHEAD, LEAST_READ_AHEAD_KIB);
  pageOutPrograms();
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  await callMyself(serve);
  writeFileSync(READ_AHEAD, readAhead);
  await untilIdle();
  zeroFreeMemory();
  await untilIdle();
}

const LOOK_MS = 250;
const IDLE_SHARE = 0.02;

/** What the agent has not done by the time the VM is saved, such as closing connections, each clone would have to do. */
async function untilIdle(): Promise<void> {
  for (let before = performance.eventLoopUtilization(); ; before = performance.eventLoopUtilization()) {
    await sleep(LOOK_MS);
    if (performance.eventLoopUtilization(before).utilization < IDLE_SHARE) return;
  }
}

/** of the disk with the root */
const READ_AHEAD = '/sys/block/vda/queue/read_ahead_kb';
const LEAST_READ_AHEAD_KIB = '4';

/** What the boot needed of programs and libraries, and nothing later will: that is read again which is needed. */
function pageOutPrograms(): void {
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const [, start = '', end = ''] = /^([0-9a-f]+)-([0-9a-f]+) r-[-x]p .* \//.exec(line) ?? [];
    if (start !== '') pageOut(Number.parseInt(start, 16), Number.parseInt(end, 16) - Number.parseInt(start, 16));
  }
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

/** How a message is read and written is made into code when the first one comes, for each message inside it, too. */
function meetMessages(): void {
  for (const message of Object.values(loadContract()))
    if ('serialize' in message) message.deserialize(message.serialize({}));
}

async function callMyself(serve: (socket: Socket) => void): Promise<void> {
  using _listener = listenUnix(SOCKET, serve);
  meetMessages();
  const stub = new (loadContract().Agent)(`unix:${SOCKET}`, credentials.createInsecure());
  for (let round = 0; round < ROUNDS; round++) {
    // as the host's calls have one
    const options = { deadline: Date.now() + DEADLINE_MS };
    await new Promise<void>((resolve, reject) => {
      // not GetInfo: the kernel makes its boot id at the first reading, and each clone shall have its own
      stub.GetStats({}, options, (error) => (error ? reject(error) : resolve()));
    });
    // unknown on purpose: it takes the way of every error
    await new Promise<void>((resolve) => stub.SignalContainer({ id: 'warm-up' }, options, () => resolve()));
  }
  await rehearse(stub);
  stub.close();
  removeSmall(SOCKET);
}
