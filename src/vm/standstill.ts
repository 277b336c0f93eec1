import { isStopped, sendSignal } from '../lib/processes.ts';
import type { VmRecord } from './contracts.ts';
import type { QmpClient } from './qemu/qmp.ts';

/**
 * Lets the processors of a VM stand still. With QEMU's own `stop` the vsock device stands still as well, which
 * vhost-device-vsock 0.3.0 does not survive: the next thing that happens on the host's side of it ends its worker, and
 * with it the way to the agent. So QEMU itself is stopped there.
 */
export async function pauseVm(record: VmRecord, qmp: QmpClient): Promise<void> {
  if (record.transport === 'vhost-vsock') await qmp.execute('stop');
  else await sendSignal(record, 'SIGSTOP');
}

export async function resumeVm(record: VmRecord, qmp: QmpClient): Promise<void> {
  if (record.transport === 'vhost-vsock') await qmp.execute('cont');
  else await sendSignal(record, 'SIGCONT');
}

/** Has a QEMU that was stopped as a process answer for as long as the work takes. */
export async function whileAnswering<T>(record: VmRecord, work: () => Promise<T>): Promise<T> {
  if (!(await isStopped(record))) return await work();
  await sendSignal(record, 'SIGCONT');
  try {
    return await work();
  } finally {
    await sendSignal(record, 'SIGSTOP');
  }
}
