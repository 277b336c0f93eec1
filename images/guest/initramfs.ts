import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CaissonError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { bootModules } from './recipe.ts';

export interface InitramfsInput {
  /** extracted packages */
  readonly root: string;
  /** `usr/lib/modules/<release>` below it, after depmod */
  readonly modules: string;
  readonly init: string;
  readonly output: string;
}

/** Busybox, the init script and the modules of the root disk in one uncompressed cpio. */
export async function makeInitramfs(input: InitramfsInput): Promise<void> {
  const tree = `${input.output}.tree`;
  for (const directory of ['bin', 'dev', 'proc', 'root']) await mkdir(join(tree, directory), { recursive: true });
  await copyFile(join(input.root, 'usr/bin/busybox'), join(tree, 'bin/busybox'));
  await copyFile(input.init, join(tree, 'init'));
  const order = loadOrder(await readFile(join(input.modules, 'modules.dep'), 'utf8'), bootModules);
  for (const module of order) await copyFile(join(input.modules, module), join(tree, basename(module)));
  await writeFile(join(tree, 'modules'), order.map((module) => `/${basename(module)}\n`).join(''));
  await run('chmod', ['755', join(tree, 'init'), join(tree, 'bin/busybox')]);
  await run('sh', [
    '-c',
    'cd "$1" && find . | LC_ALL=C sort | cpio --quiet -R 0:0 --reproducible -o -H newc > "$2"',
    'sh',
    tree,
    input.output,
  ]);
  await run('rm', ['-r', tree]);
}

/** Paths of the modules and of what they need, dependencies first. `dep` is depmod's modules.dep. */
export function loadOrder(dep: string, names: readonly string[]): string[] {
  const dependencies = new Map<string, string[]>();
  for (const line of dep.split('\n')) {
    const [path, needs] = line.split(':');
    if (path) dependencies.set(path, needs?.trim().split(' ').filter(Boolean) ?? []);
  }
  const order = new Set<string>();
  for (const name of names) {
    const path = dependencies
      .keys()
      .find((candidate) => basename(candidate, '.ko').replaceAll('-', '_') === name.replaceAll('-', '_'));
    if (path === undefined) throw new CaissonError('internal', `the kernel has no module ${name}`);
    // modules.dep lists the nearest first
    for (const needed of (dependencies.get(path) ?? []).toReversed()) order.add(needed);
    order.add(path);
  }
  return [...order];
}
