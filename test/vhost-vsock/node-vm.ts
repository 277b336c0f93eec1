import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { kernelArguments } from '../../src/vm/qemu/command-line.ts';

export interface NodeVm {
  /** with `kernel`, `initramfs` and `root.erofs` */
  readonly image: string;
  readonly disks: readonly string[];
  /** it writes its result there */
  readonly resultFile: string;
  readonly memoryMib: number;
  readonly timeoutMs: number;
  /** seen by its init as environment variables `CAISSON_TEST_<name>` */
  readonly settings: Readonly<Record<string, string>>;
  readonly onLine: (line: string) => void;
}

const resultSchema = z.object({ ok: z.boolean(), lines: z.array(z.string()) });
export type NodeResult = z.infer<typeof resultSchema>;

/** Boots the node under TCG, runs it to its end and returns what it reported. */
export async function runNode(vm: NodeVm): Promise<NodeResult> {
  const settings = Object.entries(vm.settings).map(([name, value]) => `node.${name}=${value}`);
  const disks = [join(vm.image, 'root.erofs'), ...vm.disks];
  const args = [
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
    ...['-M', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max', '-smp', '2', '-m', `${vm.memoryMib}M`],
    ...['-kernel', join(vm.image, 'kernel'), '-initrd', join(vm.image, 'initramfs')],
    ...['-append', [kernelArguments('tcg'), ...settings].join(' ')],
    ...[
      '-device',
      'virtio-serial-pci',
      '-chardev',
      'stdio,id=console,signal=off',
      '-device',
      'virtconsole,chardev=console',
    ],
    ...['-chardev', `file,id=result,path=${vm.resultFile}`, '-device', 'virtserialport,chardev=result,nr=2'],
    ...['-device', 'virtio-rng-pci'],
    ...disks.flatMap((file, index) => [
      ...['-drive', `file=${file},format=raw,if=none,id=disk${index},cache=unsafe${index < 3 ? ',read-only=on' : ''}`],
      ...['-device', `virtio-blk-pci,drive=disk${index}`],
    ]),
  ];
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), vm.timeoutMs);
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  try {
    const ended = once(child, 'exit');
    for await (const line of createInterface({ input: child.stdout })) vm.onLine(line);
    await ended;
    const result = await readFile(vm.resultFile, 'utf8');
    if (result === '') throw new Error(child.killed ? 'the node ran out of time' : 'the node ended without a result');
    return resultSchema.parse(JSON.parse(result));
  } finally {
    clearTimeout(timer);
    process.off('exit', kill);
    child.kill('SIGKILL');
  }
}
