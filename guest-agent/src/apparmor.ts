import { readFileSync } from 'node:fs';
import { CaissonError, describeError } from '../../src/lib/errors.ts';
import { runCommand } from './command.ts';

/** For the kernel: text for apparmor_parser, or what that has made of such. */
export interface AppArmorPolicy {
  readonly isCompiled: boolean;
  readonly data: Buffer;
}

/** One profile a line, as `<name> (<mode>)`. */
const PROFILES = '/sys/kernel/security/apparmor/profiles';

/** In the kernel, from which nothing is ever removed. */
const known = new Set<string>();

/** Has the kernel of the VM load the profiles of a policy, in place of those that it has by their names. */
export async function loadAppArmorPolicy({ isCompiled, data }: AppArmorPolicy): Promise<void> {
  const how = ['--replace', '--skip-cache', '--quiet', ...(isCompiled ? ['--binary'] : [])];
  try {
    await runCommand('/usr/sbin/apparmor_parser', how, data);
  } catch (cause) {
    const why = describeError(cause);
    throw new CaissonError('invalid_argument', `the guest cannot load the AppArmor profile: ${why}`, { cause });
  }
}

/** crun's own error for a profile that is not there reads like that for a command that is not there. */
export function requireAppArmorProfile(name: string | undefined): void {
  if (name === undefined || known.has(name)) return;
  for (const line of readFileSync(PROFILES, 'utf8').split('\n')) known.add(line.replace(/ \(\w+\)$/, ''));
  if (known.has(name)) return;
  throw new CaissonError('failed_precondition', `the guest has no AppArmor profile ${JSON.stringify(name)}`);
}
