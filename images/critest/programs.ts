import { createHash } from 'node:crypto';
import { lstat, mkdir, readFile, readlink, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from '../../src/lib/exec.ts';
import { exists, removeTree } from '../../src/lib/files.ts';
import { extractDebianPackages, suite } from '../debian.ts';
import type { TarEntry } from '../layout.ts';

/** Debian packages that critest's images are made of, besides the host's busybox-static. */
const critestPackages = ['apache2-bin', 'busybox', 'nginx-light', 'procps', 'util-linux'] as const;
const LOADER = 'usr/lib64/ld-linux-x86-64.so.2';
const LIBRARIES = 'usr/lib/x86_64-linux-gnu';

/** Extracts Debian packages below `cache`, unless that has been done before; returns the directory. */
export async function debianRoot(cache: string, packages: readonly string[] = critestPackages): Promise<string> {
  const inputs = createHash('sha256')
    .update(JSON.stringify([suite, packages]))
    .digest('hex')
    .slice(0, 12);
  const root = join(cache, `debian-root-${inputs}`);
  if (await exists(root)) return root;
  const work = `${root}.${process.pid}`;
  await mkdir(cache, { recursive: true });
  try {
    await extractDebianPackages(work, packages);
    await rename(work, root);
  } finally {
    await removeTree(work);
  }
  return root;
}

/**
 * Programs of an extracted root with the loader and the libraries that it finds for them, each under its own path, with
 * the directories above them.
 */
export async function programsWithLibraries(root: string, programs: readonly string[]): Promise<TarEntry[]> {
  const paths = new Set<string>(programs);
  for (const program of programs) for (const library of await librariesOf(root, program)) paths.add(library);
  const files = await Promise.all([...paths].map((path) => fileEntry(root, path)));
  return [
    ...directoriesAbove([...paths, LOADER]),
    ...files,
    { name: LOADER, mode: 0o755, content: await readFile(join(root, LOADER)) },
    { name: 'lib64', type: 'symlink', linkname: 'usr/lib64' },
  ];
}

/** Paths of the shared objects that a program needs, without the loader's own. */
async function librariesOf(root: string, program: string): Promise<string[]> {
  const libraries = join(root, LIBRARIES);
  // the loader resolves as it would in the container; it does not run the program
  const { stdout } = await run(join(root, LOADER), ['--library-path', libraries, '--list', join(root, program)]);
  return [...stdout.matchAll(/=> (\S+)/g)].flatMap(([, path = '']) =>
    path.startsWith(`${libraries}/`) ? [path.slice(root.length + 1)] : [],
  );
}

/** A symbolic link becomes the file that it names, if it is in the same directory. */
async function fileEntry(root: string, path: string): Promise<TarEntry> {
  const isLink = (await lstat(join(root, path))).isSymbolicLink();
  const target = isLink ? join(dirname(path), await readlink(join(root, path))) : path;
  return { name: path, mode: 0o755, content: await readFile(join(root, target)) };
}

function directoriesAbove(paths: readonly string[]): TarEntry[] {
  const directories = new Set<string>();
  for (const path of paths) {
    for (let above = dirname(path); above !== '.'; above = dirname(above)) directories.add(above);
  }
  return [...directories].toSorted().map((name) => ({ name, type: 'directory' as const }));
}
