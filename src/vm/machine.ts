import { chmod, chown, mkdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { KeyedMutex, orAborted } from '../lib/async.ts';
import { CaissonError, isCaissonError, isErrno } from '../lib/errors.ts';
import { readFileIfExists, removeTree } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import {
  findProcesses,
  isRunning,
  killProcess,
  NORMAL_PRIORITY,
  setNice,
  type ProcessIdentity,
} from '../lib/processes.ts';
import { tail } from '../lib/exec.ts';
import { connectWhenReady } from '../lib/unix-socket.ts';
import type { DiskSpec, Vm, VmExit, VmRecord, VmSize } from './contracts.ts';
import { growMemory } from './grow.ts';
import { GuestLog } from './guest-log.ts';
import { fsAttacher } from './file-system.ts';
import { makeBlockNode } from './qemu/process.ts';
import { blockdevOptions, DISK_NODE, nodeName, scsiDisk, vmPaths } from './qemu/command-line.ts';
import { QmpClient } from './qemu/qmp.ts';
import { pauseVm, resumeVm } from './standstill.ts';
import { kernelDialer } from './vsock/kernel.ts';
import { startRelay, type VsockDialer } from './vsock/relay.ts';
import { dialVhostUser } from './vsock/vhost-user.ts';

/** The agent listens there: guest-agent/src/main.ts. */
const AGENT_PORT = 1024;

export interface MachineInput {
  readonly record: VmRecord;
  readonly directory: string;
  /** what it can grow to */
  readonly room: VmSize;
  readonly log: Logger;
}

/** A running QEMU with everything of the daemon's that is connected to it. */
export interface Machine extends Vm {
  readonly directory: string;
  /** Returns when the agent has taken a connection, which its first client gets: a device just plugged in has no event. */
  readonly untilDialled: (signal: AbortSignal) => Promise<void>;
  readonly qmp: QmpClient;
  readonly guestLog: GuestLog;
}

/** Connects to a QEMU that has just been started or that an earlier daemon left. */
export async function connectMachine(input: MachineInput, signal: AbortSignal): Promise<Machine> {
  const { record, directory, room, log } = input;
  const path = vmPaths(directory);
  await using undo = new AsyncDisposableStack();
  const qmp = await QmpClient.connect(await connectWhenReady(path.qmp, record.uid, signal));
  undo.defer(() => qmp.close());
  const guestLog = undo.use(new GuestLog(await connectWhenReady(path.console, record.uid, signal), path.guestLog));
  const exited = new Promise<VmExit>((resolve) => {
    qmp.once('close', () => void describeExit(directory, guestLog).then((reason) => resolve({ reason })));
  });
  await removeTree(path.agent);
  const dialAgent =
    record.transport === 'vhost-vsock'
      ? kernelDialer({ cid: record.cid, port: AGENT_PORT })
      : () => dialVhostUser(path.vsock, AGENT_PORT, record.uid);
  const dial: VsockDialer = () =>
    dialAgent().catch(async (error: unknown) => {
      await killWithoutHelper(record);
      throw error;
    });
  const first = undo.use(firstConnection(dial));
  undo.use(await startRelay(path.agent, async () => first.take() ?? (await dial()), log));
  const attachDisk = diskAttacher(qmp, await pluggedDisks(qmp), (disk) => openable(disk, record, directory));
  const attachFs = await fsAttacher(qmp);
  const growing = new KeyedMutex();
  const release = undo.move();
  return {
    record,
    directory,
    untilDialled: first.open,
    qmp,
    guestLog,
    agentSocket: path.agent,
    exited,
    attachDisk,
    attachFs,
    hurry: async () => {
      await Promise.all([record, ...record.helperPids].map((process) => setNice(process, NORMAL_PRIORITY)));
    },
    pause: () => pauseVm(record, qmp),
    resume: () => resumeVm(record, qmp),
    growMemory: (mib, growSignal) => growing.run('memory', () => growMemory(qmp, room, mib, growSignal)),
    disconnect: () => release.disposeAsync(),
    guestLogTail: () => guestLog.tail(),
    [Symbol.asyncDispose]: async () => {
      try {
        await killAll(record);
      } finally {
        await release.disposeAsync();
      }
      await removeTree(directory);
    },
  };
}

const REDIAL_MS = 20;

interface FirstConnection extends Disposable {
  readonly open: (signal: AbortSignal) => Promise<void>;
  /** Once; undefined when it is gone or was never opened. */
  readonly take: () => Socket | undefined;
}

/** What it costs to find out whether the agent listens is not paid a second time. */
function firstConnection(dial: VsockDialer): FirstConnection {
  let waiting: Socket | undefined;
  let isOver = false;
  const lost = (): void => void waiting?.destroy();
  return {
    open: async (signal) => {
      waiting = (await untilDialled(dial, signal)).once('error', lost);
      if (isOver) lost(); // the machine has been given up meanwhile
    },
    take: () => {
      const socket = waiting?.off('error', lost);
      waiting = undefined;
      return socket?.destroyed ? undefined : socket;
    },
    [Symbol.dispose]: () => {
      isOver = true;
      lost();
    },
  };
}

async function untilDialled(dial: VsockDialer, signal: AbortSignal): Promise<Socket> {
  for (;;) {
    if (signal.aborted) throw new CaissonError('unavailable', 'the guest agent takes no connection');
    try {
      return await dial();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, REDIAL_MS));
    }
  }
}

/** A request that reaches the device before the guest's driver is there is lost: it gets no answer at all. */
const isRefusal = (error: unknown): boolean =>
  isCaissonError(error, 'unavailable') ||
  isCaissonError(error, 'deadline_exceeded') ||
  isErrno(error, 'ECONNRESET') ||
  isErrno(error, 'EPIPE');

/** Serials of the disks that QEMU has: from its command line, or from an earlier daemon. */
async function pluggedDisks(qmp: QmpClient): Promise<string[]> {
  const nodes = nodeList.parse(await qmp.execute('query-named-block-nodes', { flat: true }));
  return nodes.flatMap((node) => DISK_NODE.exec(node['node-name'])?.[1] ?? []);
}

const nodeList = z.array(z.object({ 'node-name': z.string() }));

/** QEMU numbers nothing for us: disks never go, so the next free unit is the number of disks so far. */
function diskAttacher(
  qmp: QmpClient,
  plugged: readonly string[],
  openableDisk: (disk: DiskSpec) => Promise<DiskSpec>,
): Vm['attachDisk'] {
  const attached = new Map<string, Promise<void>>(plugged.map((serial) => [serial, Promise.resolve()]));
  const order = new KeyedMutex();
  let next = plugged.length;
  const plug = async (disk: DiskSpec): Promise<void> => {
    const name = nodeName(disk.serial);
    await qmp.execute('blockdev-add', { ...blockdevOptions(name, await openableDisk(disk)) });
    try {
      await qmp.execute('device_add', scsiDisk(disk, next));
      next++;
    } catch (error) {
      await qmp.execute('blockdev-del', { 'node-name': name });
      throw error;
    }
  };
  return async (disk, signal) => {
    let done = attached.get(disk.serial);
    if (!done) {
      done = order.run('disks', () => plug(disk));
      attached.set(disk.serial, done);
      done.catch(() => attached.delete(disk.serial));
    }
    await orAborted(done, signal);
  };
}

/** A device of the node as QEMU's user can open it. */
async function openable(disk: DiskSpec, { pid, uid }: VmRecord, directory: string): Promise<DiskSpec> {
  if (!disk.device) return disk;
  const path = `${vmPaths(directory).devices}/${disk.serial}`;
  await makeBlockNode(pid, { ...disk.device, path, uid });
  return { ...disk, path };
}

async function describeExit(directory: string, guestLog: GuestLog): Promise<string> {
  const words = tail((await readFileIfExists(vmPaths(directory).qemuLog)) ?? '');
  const guest = guestLog.tail();
  return ['QEMU has ended', words && `its last words: ${words}`, guest && `the guest's: ${guest}`]
    .filter(Boolean)
    .join('; ');
}

/** Returns when QEMU and its helpers are no more. */
export async function killAll(record: VmRecord): Promise<void> {
  const processes: ProcessIdentity[] = [record, ...record.helperPids];
  await Promise.all(processes.map(killProcess));
  for (const process of processes) await untilGone(process);
}

/** A helper that an earlier daemon started is no child of ours: its death shows when nobody can be dialled. */
async function killWithoutHelper(record: VmRecord): Promise<void> {
  const running = await Promise.all(record.helperPids.map(isRunning));
  if (running.includes(false)) await killProcess(record);
}

const GONE_TIMEOUT_MS = 10_000;

/** A killed process that is nobody's child of ours has no event; it is gone within milliseconds. */
async function untilGone(process: ProcessIdentity): Promise<void> {
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  while (await isRunning(process)) {
    if (Date.now() > deadline) throw new CaissonError('internal', `process ${process.pid} does not die of SIGKILL`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Empty: root's, with a part that is the VM's user's and that nobody else can enter. */
export async function makeVmDirectory(directory: string, uid: number): Promise<void> {
  const { run, devices } = vmPaths(directory);
  await removeTree(directory);
  for (const path of [directory, devices, run]) await mkdir(path, { recursive: true });
  await chmod(directory, 0o711);
  await chmod(devices, 0o711);
  await chmod(run, 0o700);
  await chown(run, uid, uid);
}

/** Kills what has this VM's directory in its command line: QEMU and helpers of which no record was kept. */
export async function killStrays(directory: string): Promise<void> {
  const strays = await findProcesses((commandLine) => commandLine.includes(`${vmPaths(directory).run}/`));
  await Promise.all(strays.map(killProcess));
  for (const stray of strays) await untilGone(stray);
}
