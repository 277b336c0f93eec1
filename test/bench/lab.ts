import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { busyboxImage } from '../../images/busybox.ts';
import { writeLayout } from '../../images/layout.ts';
import { setUpSsh } from '../../src/cli/ssh-setup.ts';
import { removeTree } from '../../src/lib/files.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import { netnsOf, processesOf } from '../support/resources.ts';
import { startContainerd, type Containerd } from './containerd.ts';
import type { Mode } from './modes.ts';
import { IMAGE, PAUSE_IMAGE } from './operations.ts';
import type { Peer } from './peer.ts';

/** One daemon of each, on the same CNI network and with the same image. */
export interface Lab extends AsyncDisposable {
  readonly daemon: TestDaemon;
  readonly caisson: Peer;
  readonly containerd: Containerd;
}

/** Disposal throws when anything of it stays behind. */
export async function startLab(mode: Mode): Promise<Lab> {
  await using undo = new AsyncDisposableStack();
  const busybox = await busyboxImage(IMAGE);
  const pause = { ...(await busyboxImage(PAUSE_IMAGE)), config: { Cmd: ['/bin/sleep', '2147483647'] } };
  const daemon = await startTestDaemon({
    ownSession: true,
    images: [busybox],
    config: { log: { level: 'info' }, vm: mode.vm, ssh: { enabled: true } },
  });
  undo.defer(() => endDaemon(daemon));
  const layout = join(daemon.dir, 'layout');
  await writeLayout(layout, [busybox, pause]);
  const containerd = await startContainerd({
    layout,
    pauseImage: PAUSE_IMAGE,
    cniConfDir: daemon.cni.confDir,
    cniBinDirs: daemon.config.network.bin_dirs,
  });
  undo.defer(() => endContainerd(containerd));
  await removeTree(layout);
  await setUpSsh(daemon.config, { home: daemon.dir });
  const release = undo.move();
  return { daemon, caisson: caissonPeer(daemon), containerd, [Symbol.asyncDispose]: () => release.disposeAsync() };
}

function caissonPeer(daemon: TestDaemon): Peer {
  return {
    name: 'caisson',
    cri: daemon.cri,
    dir: daemon.dir,
    cgroupParent: '',
    sshConfig: join(daemon.dir, '.ssh/config'),
    settled: (signal) => poolIsFull(daemon, signal),
    podProcesses: async () => (await processesOf(daemon)).map(({ pid }) => pid),
  };
}

const POLL_MS = 50;
/** `ms`: a busy machine gives VMs of low priority little time, and what fails is tried again */
const FULL_WITHIN_MS = 300_000;

/** The pool is filled in the background, which has no event. */
async function poolIsFull({ cri }: TestDaemon, signal: AbortSignal): Promise<void> {
  for (const deadline = Date.now() + FULL_WITHIN_MS; ; await sleep(POLL_MS, undefined, { signal })) {
    const { info } = await cri.runtime.Status({ verbose: true }, { signal });
    const { pool } = JSON.parse(info['info'] ?? '{}') as { pool: { size: number; ready: number; reason: string } };
    if (pool.ready >= pool.size) return;
    if (Date.now() > deadline) throw new Error(`the pool is not full after ${FULL_WITHIN_MS} ms: ${pool.reason}`);
  }
}

async function endDaemon(daemon: TestDaemon): Promise<void> {
  await daemon[Symbol.asyncDispose]();
  const processes = (await processesOf(daemon)).map(({ name, pid }) => `${name} ${pid}`);
  noneLeft('caisson', [...processes, ...(await netnsOf(daemon))]);
}

async function endContainerd(containerd: Containerd): Promise<void> {
  await containerd[Symbol.asyncDispose]();
  noneLeft('containerd', await containerd.leftovers());
}

function noneLeft(name: string, left: readonly string[]): void {
  if (left.length > 0) throw new Error(`left behind by ${name}: ${left.join(', ')}`);
}
