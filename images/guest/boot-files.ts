import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { removeTree } from '../../src/lib/files.ts';
import { makeInitramfs } from './initramfs.ts';
import { extractKernel } from './kernel.ts';

/**
 * `output`/{kernel,initramfs} from the kernel package extracted in `root`, whose modules are made ready for use and
 * whose /boot goes. Returns the kernel's release.
 */
export async function makeBootFiles(root: string, output: string): Promise<string> {
  const [kernelRelease] = await readdir(join(root, 'usr/lib/modules'));
  if (kernelRelease === undefined) throw new CaissonError('internal', 'the kernel package brought no modules');
  const vmlinuz = join(root, 'boot', `vmlinuz-${kernelRelease}`);
  await writeFile(join(output, 'kernel'), extractKernel(await readFile(vmlinuz)), { mode: 0o644 });
  const modules = join(root, 'usr/lib/modules', kernelRelease);
  // xz costs the guest more time at every boot than it saves the host disk once
  await run('sh', ['-c', 'find "$1" -name "*.ko.xz" -print0 | xargs -0 -P0 -n64 unxz', 'sh', modules]);
  await run('depmod', ['--basedir', join(root, 'usr'), kernelRelease]);
  const init = join(import.meta.dirname, 'initramfs-init');
  await makeInitramfs({ root, modules, init, output: join(output, 'initramfs') });
  await removeTree(join(root, 'boot'));
  return kernelRelease;
}
