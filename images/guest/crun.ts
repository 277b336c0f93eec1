import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { exists, removeTree } from '../../src/lib/files.ts';
import { debianSource, extractDebianPackages } from '../debian.ts';

/** What its configure and make need. */
const buildPackages = [
  'coreutils',
  'dash',
  'diffutils',
  'findutils',
  'gcc',
  'grep',
  'libc6-dev',
  'libcap-dev',
  'libseccomp-dev',
  'make',
  'mawk',
  'python3-minimal',
  'sed',
] as const;

/** No systemd is in the guest, and nothing in it makes checkpoints; yajl's own copy is in the source. */
const BUILD = `
./configure --quiet --disable-systemd --disable-criu --disable-dl --enable-embedded-yajl \
  --disable-shared --enable-static CFLAGS=-O2 LDFLAGS=-static
make --silent --jobs="$(nproc)" all LDFLAGS=-all-static
strip crun
`;

/**
 * Debian's crun without shared libraries, made from the same version's source, at `cache`/crun-<version>; made once.
 * To load libraries is a third of what an exec costs without KVM: docs/decisions/0019. Throws `failed_precondition` when
 * that would be another program than Debian's, or apt's source has none of it.
 */
export async function staticCrun(version: string, cache: string): Promise<string> {
  const program = join(cache, `crun-${version}`);
  if (await exists(program)) return program;
  if (version.includes('+deb'))
    throw new CaissonError(
      'failed_precondition',
      `crun ${version} has patches of Debian's, which are not in its tarball`,
    );
  const work = `${program}.build-${process.pid}`;
  await mkdir(work, { recursive: true });
  try {
    const tarball = await downloadSource(version, work);
    const root = join(work, 'root');
    await extractDebianPackages(root, buildPackages);
    await makeUsable(root);
    await mkdir(join(root, 'src'));
    await run('tar', ['--extract', '--strip-components=1', `--directory=${root}/src`, `--file=${tarball}`]);
    await writeFile(join(root, 'src/git-version.h'), `#define GIT_VERSION "Debian ${version}, static"\n`);
    await run('chroot', [root, '/bin/sh', '-ec', `cd /src\n${BUILD}`], { timeoutMs: 600_000 });
    await rename(join(root, 'src/crun'), program);
  } finally {
    await removeTree(work);
  }
  return program;
}

/** By apt, with its own proxies and keys; the list of sources is no part of the host's. */
async function downloadSource(version: string, work: string): Promise<string> {
  const list = join(work, 'sources.list');
  await writeFile(list, `${await debianSource('deb-src')}\n`);
  await mkdir(join(work, 'lists'));
  const own = [`Dir::Etc::SourceList=${list}`, 'Dir::Etc::SourceParts=-', `Dir::State::Lists=${work}/lists`];
  const options = own.flatMap((option) => ['-o', option]);
  await run('apt-get', ['--quiet=2', ...options, 'update']);
  const asked = ['source', '--print-uris', '--tar-only', `crun=${version}`];
  const { stdout } = await run('apt-get', ['--quiet=2', ...options, ...asked]);
  const [, uri, name, sum] = /^'(\S+)' (\S+\.orig\.tar\.\w+) \d+ (\S+)$/m.exec(stdout) ?? [];
  if (uri === undefined || name === undefined || sum === undefined)
    throw new CaissonError('failed_precondition', `apt's sources have no tarball of crun ${version}`);
  const tarball = join(work, name);
  await run('/usr/lib/apt/apt-helper', [...options, 'download-file', uri, tarball, sum]);
  return tarball;
}

/** What scripts of packages would have made. */
async function makeUsable(root: string): Promise<void> {
  const links = { bin: 'usr/bin', sbin: 'usr/sbin', lib: 'usr/lib', lib64: 'usr/lib64', 'usr/bin/awk': 'mawk' };
  for (const [link, target] of Object.entries(links))
    if (!(await exists(join(root, link)))) await run('ln', ['-s', target, join(root, link)]);
  if (!(await exists(join(root, 'usr/bin/sh')))) await run('ln', ['-s', 'dash', join(root, 'usr/bin/sh')]);
  if (!(await exists(join(root, 'dev/null')))) await run('mknod', ['-m', '666', join(root, 'dev/null'), 'c', '1', '3']);
}
