import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { run } from '../../src/lib/exec.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { versionsOfContainerd } from './containerd.ts';

const MIB = 1024 * 1024;

/** What the figures depend on. */
export interface Host {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memory_mib: number;
  readonly kernel: string;
  readonly system: string;
  /** of the last minute, before the first measurement: about 0 on a quiet machine */
  readonly load: number;
  readonly accelerator: string;
  readonly transport: string;
  readonly qemu: string;
  readonly containerd: string;
  readonly runc: string;
  readonly node: string;
}

export const loadNow = (): number => loadavg()[0] ?? 0;

export async function describeHost({ cri, config }: TestDaemon, load: number): Promise<Host> {
  const { info } = await cri.runtime.Status({ verbose: true });
  const known = JSON.parse(info['info'] ?? '{}') as { accelerator?: { kind?: string }; transport?: string };
  const { stdout: qemu } = await run(config.vm.qemu, ['--version']);
  const osRelease = await readFile('/etc/os-release', 'utf8');
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_mib: Math.round(totalmem() / MIB),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"/m.exec(osRelease)?.[1] ?? 'unknown',
    load,
    accelerator: known.accelerator?.kind ?? 'unknown',
    transport: known.transport ?? 'unknown',
    qemu: /version (\S+)/.exec(qemu)?.[1] ?? 'unknown',
    ...(await versionsOfContainerd()),
    node: process.versions.node,
  };
}
