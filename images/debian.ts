import { CaissonError } from '../src/lib/errors.ts';
import { run } from '../src/lib/exec.ts';

/** The release that all images are made from. */
export const suite = 'trixie';

/** Extracts Debian packages and what they depend on into `root`, without running their scripts. */
export async function extractDebianPackages(
  root: string,
  packages: readonly string[],
  flags: readonly string[] = [],
): Promise<void> {
  const source = await debianSource('deb');
  const include = `--include=${packages.join(',')}`;
  const how = ['--quiet', '--mode=root', '--variant=extract', '--format=directory', include, ...flags];
  await run('mmdebstrap', [...how, suite, root, source], { timeoutMs: 600_000, installHint: 'run bin/setup' });
}

/** A one-line apt source for the suite, from the host's own sources: no address is written down in this project. */
export async function debianSource(type: 'deb' | 'deb-src'): Promise<string> {
  const format = '$(REPO_URI) $(CODENAME) $(COMPONENT) $(SIGNED_BY)';
  const targets = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  for (const line of targets.stdout.split('\n')) {
    const [uri, codename, component] = line.split(' ');
    if (codename === suite && component === 'main') {
      return `${type} [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${uri} ${suite} main`;
    }
  }
  throw new CaissonError('failed_precondition', `apt has no source for Debian ${suite}`, { hint: 'run bin/setup' });
}
