import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, open, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'smol-toml';
import { busyboxImage } from '../../images/busybox.ts';
import { loadOffline } from '../../src/cli/image-load.ts';
import { load, type Config } from '../../src/config/index.ts';
import { findHierarchies, removeCgroup } from '../../src/lib/cgroup.ts';
import { tail } from '../../src/lib/exec.ts';
import { removeTree } from '../../src/lib/files.ts';
import { connectCri, type CriConnection } from '../../src/lib/grpc/cri-client.ts';
import { makeCniConfDir, type CniDirectory, type CniOptions } from './cni.ts';
import { writeLayout, type ImageSpec } from '../../images/layout.ts';
import { releaseAll } from './resources.ts';

/** The configuration file's keys, as deep as wanted. */
export type ConfigOverrides = DeepPartial<Config>;
type DeepPartial<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: DeepPartial<T[K]> } : T;

export interface TestDaemonOptions {
  /** merged over what a test daemon has by default */
  readonly config?: ConfigOverrides;
  /** loaded before it starts; busybox as `caisson.test/busybox:latest` if left out */
  readonly images?: readonly ImageSpec[];
  readonly cni?: CniOptions;
  readonly env?: Readonly<Record<string, string>>;
  /** of `serve` */
  readonly args?: readonly string[];
  /** Ctrl-C does not reach it: for a test that stops it itself then, and while it runs can have its pods removed */
  readonly ownSession?: boolean;
  /** `ms` until it must answer, 90 s if left out */
  readonly startTimeoutMs?: number;
}

/** A real daemon in a process of its own, which shares nothing with any other daemon of this machine. */
export interface TestDaemon extends AsyncDisposable {
  /** a new one after each restart */
  readonly cri: CriConnection;
  readonly config: Config;
  readonly configFile: string;
  /** everything of it is below: root, state, socket, configuration, logs of pods if a test puts them there */
  readonly dir: string;
  readonly cni: CniDirectory;
  /** a new one after each restart */
  readonly pid: number;
  readonly running: boolean;
  /** everything it has logged, also before a restart */
  log(): Promise<string>;
  /** Returns when the process has ended, with its exit code; SIGTERM if left out. Pods keep running. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** Starts it again, after stopping it if it runs. */
  restart(): Promise<void>;
}

const CAISSON = join(import.meta.dirname, '../../bin/caisson');
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 20_000;
const REMOVE_TIMEOUT_MS = 60_000;

/**
 * Starts `bin/caisson serve` in a directory of its own, with a CNI network of its own. Returns when it answers and makes
 * no VM template any more, so that what is counted and timed afterwards is the test's own.
 */
export async function startTestDaemon(options: TestDaemonOptions = {}): Promise<TestDaemon> {
  await using undo = new AsyncDisposableStack();
  const { dir, cni, config, configFile } = await prepare(undo, options);
  const logFile = join(dir, 'daemon.log');
  const launch = (): Promise<Launched> => startProcess(config, configFile, logFile, options);
  let launched = await launch();
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> => {
    launched.cri.close();
    return endProcess(launched.child, signal);
  };
  undo.defer(async () => {
    // what a daemon that is just dying does not remove is released by force afterwards
    if (isRunning(launched.child)) await removePods(launched.cri).catch(() => undefined);
    await stop();
  });
  const release = undo.move();
  return {
    config,
    configFile,
    dir,
    cni,
    get cri() {
      return launched.cri;
    },
    get pid() {
      return launched.child.pid!;
    },
    get running() {
      return isRunning(launched.child);
    },
    log: () => readFile(logFile, 'utf8'),
    stop,
    restart: async () => {
      await stop();
      launched = await launch();
    },
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}

export interface TestPlace {
  readonly dir: string;
  readonly cni: CniDirectory;
  readonly config: Config;
  readonly configFile: string;
}

/** Everything a daemon of its own needs before it starts; `undo` gets what removes it. */
export async function prepare(undo: AsyncDisposableStack, options: TestDaemonOptions): Promise<TestPlace> {
  // short: the path of a unix socket has at most 107 bytes
  const dir = await mkdtemp('/tmp/cst-');
  undo.defer(() => removeTree(dir));
  await chmod(dir, 0o711);
  const cni = undo.use(await makeCniConfDir(options.cni));
  const configFile = join(dir, 'caisson.toml');
  await writeFile(configFile, stringify(configValues(dir, cni.confDir, options.config ?? {})));
  const config = await load(configFile);
  undo.defer(async () => removeCgroup(await findHierarchies(), config.vm.cgroup_parent));
  undo.defer(() => releaseAll({ dir, config }));
  const images = options.images ?? [await busyboxImage('caisson.test/busybox:latest')];
  if (images.length > 0) {
    await writeLayout(join(dir, 'layout'), images);
    await loadOffline(config, join(dir, 'layout'));
    await removeTree(join(dir, 'layout'));
  }
  return { dir, cni, config, configFile };
}

function configValues(dir: string, confDir: string, overrides: ConfigOverrides): Record<string, unknown> {
  const values = {
    root: join(dir, 'root'),
    state: join(dir, 'state'),
    socket: join(dir, 'c.sock'),
    log: { level: 'debug' },
    vm: {
      accelerator: process.env['CAISSON_TEST_ACCELERATOR'] ?? 'tcg',
      ...(process.env['CAISSON_TEST_GUEST_IMAGE'] && { guest_image: process.env['CAISSON_TEST_GUEST_IMAGE'] }),
      cgroup_parent: `/caisson-${basename(dir)}`,
      // VMs that wait are made when a test asks for them: what is counted is the test's own
      pool: 0,
      // no other daemon of this machine has VMs of the same users: see resources.ts
      uid_base: randomInt(100, 20_000) * 100_000,
    },
    network: { conf_dir: confDir },
  };
  return merge(values, overrides);
}

/** Objects are merged, everything else of `b` replaces what `a` has. */
function merge(a: Record<string, unknown>, b: Record<string, unknown>): Record<string, unknown> {
  const merged = Object.entries(b).map(([key, value]) => {
    const old = a[key];
    return [key, isTable(old) && isTable(value) ? merge(old, value) : value] as const;
  });
  return { ...a, ...Object.fromEntries(merged) };
}

const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

interface Launched {
  readonly child: ChildProcess;
  readonly cri: CriConnection;
}

async function startProcess(
  config: Config,
  configFile: string,
  logFile: string,
  { env, args = [], ownSession = false, startTimeoutMs = START_TIMEOUT_MS }: TestDaemonOptions,
): Promise<Launched> {
  await using log = await open(logFile, 'a');
  const child = spawn(CAISSON, ['--config', configFile, 'serve', ...args], {
    stdio: ['ignore', log.fd, log.fd],
    env: { ...process.env, ...env },
    detached: ownSession,
  });
  for (const deadline = Date.now() + startTimeoutMs; Date.now() < deadline;) {
    if (!isRunning(child))
      throw new Error(`the daemon ended at its start: ${tail(await readFile(logFile, 'utf8'), 20)}`);
    const cri = connectCri(config.socket);
    try {
      const { info } = await cri.runtime.Status({ verbose: true }, { deadlineMs: 2000 });
      if (!info['info']?.includes('being made')) return { child, cri };
      cri.close();
    } catch {
      cri.close();
    }
    await sleep(50);
  }
  await endProcess(child, 'SIGKILL');
  throw new Error(
    `the daemon did not answer within ${startTimeoutMs} ms: ${tail(await readFile(logFile, 'utf8'), 20)}`,
  );
}

const isRunning = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null;

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (!isRunning(child)) return child.exitCode;
  const ended = once(child, 'exit');
  child.kill(signal);
  const kill = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(kill);
  return child.exitCode;
}

export async function removePods({ runtime }: CriConnection): Promise<void> {
  const { items } = await runtime.ListPodSandbox();
  const options = { deadlineMs: REMOVE_TIMEOUT_MS };
  // what cannot be removed so is released by force afterwards
  await Promise.allSettled(items.map(({ id }) => runtime.RemovePodSandbox({ pod_sandbox_id: id }, options)));
}
