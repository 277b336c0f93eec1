import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { growMemory } from '../../src/vm/grow.ts';
import type { QmpClient } from '../../src/vm/qemu/qmp.ts';

const MIB = 1024 * 1024;
const room = { vcpus: 1, memoryMib: 4096 };
const never = new AbortController().signal;

/** QEMU with 256 MiB, and so much plugged in and asked for, if there is a device. */
function qemu(
  device: { readonly sizeMib: number; readonly askedMib: number } | undefined,
  onQuery = (): void => undefined,
) {
  const commands: string[] = [];
  const events = new EventEmitter();
  const answers: Readonly<Record<string, () => unknown>> = {
    'query-memory-size-summary': () => ({ 'base-memory': 256 * MIB }),
    'query-memory-devices': () => {
      const answer = device && { id: 'memory', size: device.sizeMib * MIB, 'requested-size': device.askedMib * MIB };
      onQuery();
      return answer ? [{ data: answer }] : [];
    },
  };
  const execute = async (command: string): Promise<unknown> => {
    commands.push(command);
    return answers[command]?.() ?? {};
  };
  const qmp = Object.assign(events, { execute }) as unknown as QmpClient;
  const plugged = (mib: number): void =>
    void events.emit('MEMORY_DEVICE_SIZE_CHANGE', { id: 'memory', size: mib * MIB });
  const changes = (): string[] => commands.filter((command) => !command.startsWith('query-'));
  return { qmp, plugged, changes };
}

describe('growing the memory of a VM', () => {
  it('is done at once when the guest has it', async () => {
    const { qmp, changes } = qemu({ sizeMib: 64, askedMib: 64 });
    await growMemory(qmp, room, 320, never);
    assert.deepEqual(changes(), []);
  });

  it('waits for a guest that has been asked before and has not taken it yet', async () => {
    const { qmp, plugged, changes } = qemu({ sizeMib: 32, askedMib: 64 });
    let done = false;
    const grown = growMemory(qmp, room, 320, never).then(() => (done = true));
    await setImmediate();
    plugged(48);
    await setImmediate();
    assert.equal(done, false);
    plugged(64);
    await grown;
    assert.deepEqual(changes(), []);
  });

  it('asks for more than before, and sees it plugged while QEMU answers', async () => {
    const vm = qemu({ sizeMib: 32, askedMib: 32 }, () => vm.plugged(64));
    await growMemory(vm.qmp, room, 320, never);
    assert.deepEqual(vm.changes(), ['qom-set']);
  });

  it('plugs the device in when it is first needed', async () => {
    const { qmp, plugged, changes } = qemu(undefined);
    const grown = growMemory(qmp, room, 320, never);
    await setImmediate();
    plugged(64);
    await grown;
    assert.deepEqual(changes(), ['object-add', 'device_add']);
  });

  it('fails when QEMU ends', async () => {
    const { qmp } = qemu({ sizeMib: 0, askedMib: 64 });
    const grown = growMemory(qmp, room, 320, never);
    await setImmediate();
    (qmp as unknown as EventEmitter).emit('close');
    await assert.rejects(grown, { code: 'unavailable' });
  });
});
