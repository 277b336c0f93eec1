import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../lib/errors.ts';
import { ignoreMissing } from '../../lib/files.ts';

const MAX_BYTES = 1024 * 1024;

/**
 * What the node's kernel was given when it loaded the profile: its compiled form, with those it was loaded with. The
 * kernel shows each profile as a directory, whose name is made up, with its real name in a file. `securityFs` is
 * the kernel's `apparmor` directory in securityfs. Throws `failed_precondition` when the kernel does not tell.
 */
export async function loadedPolicy(name: string, securityFs: string): Promise<Buffer | 'unknown' | 'no AppArmor'> {
  const home = join(securityFs, 'policy/profiles');
  const directories = await readdir(home).catch(ignoreMissing(undefined));
  if (!directories) return 'no AppArmor';
  for (const directory of directories) {
    const path = join(home, directory);
    // a profile may go meanwhile
    const found = await readFile(join(path, 'name'), 'utf8').catch(ignoreMissing(''));
    if (found.trimEnd() === name) return await readPolicy(name, join(path, 'raw_data'));
  }
  return 'unknown';
}

async function readPolicy(name: string, link: string): Promise<Buffer> {
  const fail = (why: string): never => {
    throw new CaissonError('failed_precondition', `the node's AppArmor profile ${JSON.stringify(name)} ${why}`);
  };
  const path = await realpath(link).catch(ignoreMissing(''));
  if (path === '') return fail('cannot be read from its kernel, which was built or started without export_binary');
  const { size } = await stat(path);
  if (size > MAX_BYTES) return fail(`is larger than ${MAX_BYTES} bytes`);
  return await readFile(path);
}
