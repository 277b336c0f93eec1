import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { QmpClient } from '../../src/vm/qemu/qmp.ts';

/** Something that speaks as QEMU does until it is told to say something else. */
async function speakWith(talk: (qmp: QmpClient, qemu: Socket) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'caisson-qmp-'));
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write('{"QMP": {}}\n');
    socket.once('data', (text) => {
      const { id } = JSON.parse(text.toString()) as { id: number };
      socket.write(`${JSON.stringify({ return: {}, id })}\n`);
    });
  });
  try {
    await once(server.listen(join(dir, 's')), 'listening');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const qmp = await QmpClient.connect(connect(join(dir, 's')));
    const [qemu] = await accepted;
    await talk(qmp, qemu);
    qmp.close();
    qemu.destroy();
  } finally {
    server.close();
    await rm(dir, { recursive: true });
  }
}

describe('the QMP client', () => {
  it('emits events with their data', () =>
    speakWith(async (qmp, qemu) => {
      qemu.write('{"event": "DEVICE_DELETED", "data": {"device": "x"}}\n');
      assert.deepEqual(await once(qmp, 'DEVICE_DELETED'), [{ device: 'x' }]);
    }));

  for (const words of ['{"event": "error"}', '{"event": "close"}', '{"event": "DEVICE_DELETED"', 'nonsense'])
    it(`takes a QEMU for gone that says ${words}`, () =>
      speakWith(async (qmp, qemu) => {
        let closed = 0;
        qmp.on('close', () => closed++);
        qemu.write(`${words}\n`);
        await once(qemu, 'close');
        await new Promise(setImmediate);
        assert.equal(closed, 1);
        await assert.rejects(qmp.execute('query-status'), /QEMU is gone/);
      }));
});
