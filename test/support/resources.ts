/** What belongs to one test daemon on this machine, whichever way it was left behind. */
import assert from 'node:assert/strict';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../src/config/schema.ts';
import { findHierarchies } from '../../src/lib/cgroup.ts';
import { run } from '../../src/lib/exec.ts';
import { ignoreMissing } from '../../src/lib/files.ts';
import { shortId } from '../../src/lib/ids.ts';
import type { TestDaemon } from './daemon.ts';

export interface Resources {
  readonly qemu: number;
  readonly vsockHelpers: number;
  /** of the VMs' users, whatever they are */
  readonly vmProcesses: number;
  readonly netns: number;
  /** host ends of pods' veths */
  readonly bridgePorts: number;
  readonly reservations: number;
  readonly cniResults: number;
  readonly mounts: number;
  readonly vmDirectories: number;
  /** with a virtiofsd each */
  readonly shares: number;
  readonly virtiofsd: number;
  readonly scratchDisks: number;
  /** of pods, in all hierarchies */
  readonly cgroups: number;
}

/** Where a daemon's things are; enough also when it is not running. */
interface Owner {
  readonly dir: string;
  readonly config: Config;
}

/** uid_base of a test daemon is a multiple of this */
const UIDS = 100_000;
const NETNS = '/run/netns';

export async function countResources(daemon: Owner & Pick<TestDaemon, 'cni'>): Promise<Resources> {
  const { dir, config, cni } = daemon;
  const [processes, netns, ports, reservations, cniResults, mounts, vmDirectories, shares, scratch, cgroups] =
    await Promise.all([
      processesOf(daemon),
      netnsOf(daemon),
      entries(`/sys/class/net/${cni.bridge}/brif`),
      entries(cni.reservations),
      entries(join(config.root, 'network/cni')),
      mountsBelow(dir),
      entries(join(config.state, 'vms')),
      entries(join(config.state, 'volumes')),
      entries(join(config.root, 'storage/scratch')),
      cgroupsOf(daemon),
    ]);
  return {
    qemu: processes.filter(({ name }) => name.startsWith('qemu-system')).length,
    vsockHelpers: processes.filter(({ name }) => name.startsWith('vhost-device')).length,
    vmProcesses: processes.length,
    netns: netns.length,
    bridgePorts: ports.length,
    reservations: reservations.filter((name) => /^[\da-f.:]+$/.test(name)).length,
    cniResults: cniResults.length,
    mounts: mounts.length,
    vmDirectories: vmDirectories.length,
    shares: shares.length,
    virtiofsd: processes.filter(({ name }) => name === 'virtiofsd').length,
    scratchDisks: scratch.filter((name) => name.endsWith('.qcow2')).length,
    cgroups: cgroups.length,
  };
}

/**
 * Counts until it is `expected`, for what the kernel takes down behind the answer of an RPC; returns the last count,
 * to be compared with `expected`.
 */
export async function settledResources(daemon: Owner & Pick<TestDaemon, 'cni'>, expected: Resources, withinMs = 3000) {
  for (const deadline = Date.now() + withinMs; ; await sleep(50)) {
    const now = await countResources(daemon);
    if (JSON.stringify(now) === JSON.stringify(expected) || Date.now() > deadline) return now;
  }
}

/** Fails when the daemon has other things than it `held` before, a moment for the kernel allowed. */
export async function assertLeavesNothing(daemon: Owner & Pick<TestDaemon, 'cni'>, held: Resources): Promise<void> {
  assert.deepEqual(await settledResources(daemon, held), held);
}

/** Open file descriptors of the daemon itself: bounded, not constant. */
export async function countFds({ pid }: Pick<TestDaemon, 'pid'>): Promise<number> {
  return (await entries(`/proc/${pid}/fd`)).length;
}

interface VmProcess {
  readonly pid: number;
  /** of its executable */
  readonly name: string;
}

/** QEMU, its helpers, and whatever else runs as a VM's user or names the daemon's state directory. */
export async function processesOf({ config }: Owner): Promise<VmProcess[]> {
  const pids = (await entries('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid): Promise<VmProcess[]> => {
      const [status, cmdline] = await Promise.all([procText(pid, 'status'), procText(pid, 'cmdline')]);
      const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1] ?? 0);
      const zombie = /^State:\tZ/m.test(status);
      if (zombie || !(ownsUid(config, uid) || cmdline.includes(`${config.state}/`))) return [];
      const name = await readlink(`/proc/${pid}/exe`).catch(() => '');
      return [{ pid, name: name.slice(name.lastIndexOf('/') + 1) }];
    }),
  );
  return found.flat();
}

/** Their taps belong to the VMs' users, which no other daemon has; or its CNI results name their pods. */
export async function netnsOf({ config }: Owner): Promise<string[]> {
  const results = await entries(join(config.root, 'network/cni'));
  const named = new Set(results.map((file) => `caisson-${shortId(file)}`));
  const names = (await entries(NETNS)).filter((name) => name.startsWith('caisson-'));
  const owned = await Promise.all(names.map(async (name) => named.has(name) || ownsUid(config, await tapOwner(name))));
  return names.filter((_, index) => owned[index]);
}

async function cgroupsOf({ config }: Owner): Promise<string[]> {
  const homes = (await findHierarchies()).map(({ root }) =>
    readdir(`${root}${config.vm.cgroup_parent}`, { recursive: true }).catch(ignoreMissing([])),
  );
  return (await Promise.all(homes)).flat().filter((path) => /(^|\/)caisson-[^/]+$/.test(path));
}

/** The cgroups, in the hierarchies that count something, in which QEMU and its helpers are. */
export async function cgroupsOfProcesses(daemon: Owner): Promise<string[]> {
  const counting = await findHierarchies();
  const isCounting = ([number, names = '']: string[]): boolean =>
    counting.some(({ version, controllers }) =>
      version === 2 ? number === '0' : names.split(',').some((name) => controllers.includes(name)),
    );
  const processes = (await processesOf(daemon)).filter(({ name }) => /^(qemu|vhost|virtiofsd)/.test(name));
  const texts = await Promise.all(processes.map(({ pid }) => procText(pid, 'cgroup')));
  const lines = texts.flatMap((text) => text.trim().split('\n')).map((line) => line.split(':'));
  return [...new Set(lines.filter(isCounting).map(([, , ...path]) => path.join(':')))];
}

async function tapOwner(netns: string): Promise<number> {
  const shown = await run('ip', ['-d', '-n', netns, 'link', 'show', 'tap0'], { okCodes: [0, 1, 255] });
  return Number(/ user (\d+) /.exec(shown.stdout)?.[1] ?? 0);
}

const ownsUid = ({ vm }: Config, uid: number): boolean => Math.floor(uid / UIDS) === Math.floor(vm.uid_base / UIDS);

async function mountsBelow(dir: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines.map((line) => line.split(' ')[4] ?? '').filter((target) => target.startsWith(`${dir}/`));
}

/** For a daemon that has ended: kills its VMs and removes their namespaces and mounts. */
export async function releaseAll(owner: Owner): Promise<void> {
  for (const { pid } of await processesOf(owner)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended since
    }
  }
  while ((await processesOf(owner)).length > 0) await sleep(10);
  for (const name of await netnsOf(owner)) await run('ip', ['netns', 'del', name], { okCodes: [0, 1] });
  for (const target of (await mountsBelow(owner.dir)).toReversed()) await run('umount', ['-l', target]);
}

async function procText(pid: number, file: string): Promise<string> {
  return readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => ''); // it may end while we look
}

async function entries(directory: string): Promise<string[]> {
  return readdir(directory).catch(ignoreMissing([]));
}
