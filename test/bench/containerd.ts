/** containerd and runc of Debian as an instance of their own, which shares nothing with any other on this machine. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'smol-toml';
import { CaissonError } from '../../src/lib/errors.ts';
import { run, tail } from '../../src/lib/exec.ts';
import { ignoreMissing, removeTree } from '../../src/lib/files.ts';
import { connectCri, type CriConnection } from '../../src/lib/grpc/cri-client.ts';
import { findProcesses, isRunning, killProcess, type ProcessIdentity } from '../../src/lib/processes.ts';
import type { Peer } from './peer.ts';
import { childrenOf } from './processes.ts';

export interface ContainerdOptions {
  /** an OCI layout whose images it gets */
  readonly layout: string;
  readonly pauseImage: string;
  readonly cniConfDir: string;
  readonly cniBinDirs: readonly string[];
}

export interface Containerd extends Peer, AsyncDisposable {
  /** what of it is still there: for after its end */
  leftovers(): Promise<readonly string[]>;
}

const HINT = 'run bin/setup bench';
const START_TIMEOUT_MS = 30_000;
const REMOVE_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
const CGROUPS = '/sys/fs/cgroup';

/** Throws `failed_precondition` when a program is missing. */
export async function startContainerd(options: ContainerdOptions): Promise<Containerd> {
  await versionsOfContainerd();
  await using undo = new AsyncDisposableStack();
  const dir = await mkdtemp('/tmp/csb-');
  const id = basename(dir);
  const socket = join(dir, 'c.sock');
  undo.defer(async () => {
    await releaseAll(dir, id);
    await removeTree(dir);
  });
  const configFile = join(dir, 'config.toml');
  await writeFile(configFile, stringify(configOf(dir, socket, options)));
  const logFile = join(dir, 'containerd.log');
  await using log = await open(logFile, 'a');
  const child = spawn('containerd', ['--config', configFile], { stdio: ['ignore', log.fd, log.fd], detached: true });
  undo.defer(() => endProcess(child));
  const cri = connectCri(socket);
  undo.defer(async () => {
    await removePods(cri).catch(() => undefined); // what it cannot remove is released by force afterwards
    cri.close();
  });
  await answers(cri, child, logFile);
  await importImages(socket, dir, options.layout);
  const release = undo.move();
  return {
    name: 'containerd',
    cri,
    dir,
    cgroupParent: `/${id}`,
    settled: async () => undefined,
    podProcesses: async () => childrenOf((await shims(dir)).map(({ pid }) => pid)),
    leftovers: () => leftovers(dir, id),
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}

/** Versions of both; also how a missing one is found out. */
export async function versionsOfContainerd(): Promise<{ readonly containerd: string; readonly runc: string }> {
  const [containerd, runc] = await Promise.all(
    ['containerd', 'runc'].map(async (program) => {
      const { stdout } = await run(program, ['--version'], { installHint: HINT });
      return /\bv?(\d+\.\d+\.\d+\S*)/.exec(stdout.split('\n')[0] ?? '')?.[1] ?? 'unknown';
    }),
  );
  if (Number.parseInt(containerd ?? '') < 2)
    throw new CaissonError('failed_precondition', `containerd ${containerd} is too old: 2 or newer`, { hint: HINT });
  return { containerd: containerd ?? 'unknown', runc: runc ?? 'unknown' };
}

/** Its defaults, apart from places and from what would reach beyond them. */
function configOf(dir: string, socket: string, options: ContainerdOptions): object {
  return {
    version: 3,
    root: join(dir, 'root'),
    state: join(dir, 'state'),
    temp: join(dir, 'temp'),
    grpc: { address: socket },
    ttrpc: { address: `${socket}.ttrpc` },
    disabled_plugins: ['blockfile', 'btrfs', 'devmapper', 'erofs', 'zfs'].map(
      (n) => `io.containerd.snapshotter.v1.${n}`,
    ),
    plugins: {
      'io.containerd.cri.v1.images': { snapshotter: 'overlayfs', pinned_images: { sandbox: options.pauseImage } },
      'io.containerd.cri.v1.runtime': {
        netns_mounts_under_state_dir: true,
        // for hosts that are containers themselves and may not lower it
        restrict_oom_score_adj: true,
        cni: { bin_dirs: [...options.cniBinDirs], conf_dir: options.cniConfDir },
        containerd: {
          runtimes: { runc: { runtime_type: 'io.containerd.runc.v2', options: { Root: join(dir, 'runc') } } },
        },
      },
      'io.containerd.nri.v1.nri': { disable: true },
      'io.containerd.internal.v1.opt': { path: join(dir, 'opt') },
    },
  };
}

async function answers(cri: CriConnection, child: ChildProcess, logFile: string): Promise<void> {
  let last = '';
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; await sleep(50)) {
    if (child.exitCode !== null) break;
    try {
      const { status } = await cri.runtime.Status({}, { deadlineMs: 2000 });
      const bad = (status?.conditions ?? []).filter((condition) => !condition.status);
      if (bad.length === 0) return;
      last = bad.map(({ type, message }) => `${type}: ${message}`).join('; ');
    } catch (error) {
      last = String(error);
    }
  }
  throw new Error(`containerd did not start: ${last}; its log: ${tail(await readFile(logFile, 'utf8'), 10)}`);
}

async function importImages(socket: string, dir: string, layout: string): Promise<void> {
  const archive = join(dir, 'images.tar');
  await run('tar', ['-C', layout, '-cf', archive, '.']);
  await run('ctr', ['--address', socket, '--namespace', 'k8s.io', 'images', 'import', archive], { installHint: HINT });
  await rm(archive);
}

async function removePods({ runtime }: CriConnection): Promise<void> {
  const { items } = await runtime.ListPodSandbox();
  const options = { deadlineMs: REMOVE_TIMEOUT_MS };
  await Promise.allSettled(
    items.map(async ({ id }) => {
      await runtime.StopPodSandbox({ pod_sandbox_id: id }, options);
      await runtime.RemovePodSandbox({ pod_sandbox_id: id }, options);
    }),
  );
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const kill = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(kill);
}

/** Shims outlive containerd; the directory is in their command lines. */
const shims = (dir: string): Promise<ProcessIdentity[]> =>
  findProcesses((line) => line.includes('containerd-shim') && line.includes(`${dir}/`));

async function releaseAll(dir: string, id: string): Promise<void> {
  const abandoned = await shims(dir);
  const all = await childrenOf(abandoned.map(({ pid }) => pid));
  const identities = await findProcesses(() => true);
  const doomed = identities.filter(({ pid }) => all.includes(pid));
  await Promise.all(doomed.map(killProcess));
  for (const process of doomed) while (await isRunning(process)) await sleep(10);
  for (const target of (await mountsBelow(dir)).toReversed()) await run('umount', ['-l', target]);
  for (const cgroup of await cgroupsOf(id)) await removeCgroup(cgroup);
}

async function leftovers(dir: string, id: string): Promise<string[]> {
  const left = (await findProcesses((line) => line.includes(`${dir}/`))).map(({ pid }) => `process ${pid}`);
  return [...left, ...(await mountsBelow(dir)), ...(await cgroupsOf(id))];
}

async function mountsBelow(dir: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines.map((line) => line.split(' ')[4] ?? '').filter((target) => target.startsWith(`${dir}/`));
}

/** In each hierarchy of version 1, and in the one of version 2. */
async function cgroupsOf(id: string): Promise<string[]> {
  const places = [CGROUPS, ...(await readdir(CGROUPS)).map((name) => join(CGROUPS, name))];
  const found = await Promise.all(
    places.map(async (place) => ((await readdir(join(place, id)).catch(() => undefined)) ? [join(place, id)] : [])),
  );
  return found.flat();
}

async function removeCgroup(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(ignoreMissing([]));
  for (const entry of entries) if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  await rmdir(path).catch(ignoreMissing(undefined));
}
