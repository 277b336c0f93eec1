import type { GuestAppArmorPolicy } from '../../agent/contracts.ts';
import type { Config } from '../../config/index.ts';
import { CaissonError } from '../../lib/errors.ts';
import type { ContainerConfig } from '../contracts.ts';
import { loadedPolicy } from './loaded.ts';
import { sourceOf } from './source.ts';

/** Of the guest image, in the kernel of every VM. */
export const RUNTIME_DEFAULT = 'caisson-default';

export interface AppArmorProfile {
  readonly name: string;
  /** what the guest must load first; undefined: it has the profile */
  readonly policy: GuestAppArmorPolicy | undefined;
}

type Asked =
  | { readonly kind: 'unconfined' }
  | { readonly kind: 'runtime-default' }
  | { readonly kind: 'localhost'; readonly name: string };

const FIELD = 'config.linux.security_context.apparmor';
const SECURITY_FS = '/sys/kernel/security/apparmor';

/**
 * The profile that a container asks for; undefined when it is to run without one. One of the node's is what the node's
 * kernel has loaded, or, where that has no AppArmor, a file's. Throws `invalid_argument` when there is none.
 */
export async function appArmorProfile(
  config: ContainerConfig,
  { profile_dir: directory, profiles }: Config['apparmor'],
  securityFs = SECURITY_FS,
): Promise<AppArmorProfile | undefined> {
  const asked = askedProfile(config);
  if (asked.kind === 'unconfined') return undefined;
  if (asked.kind === 'runtime-default') return { name: RUNTIME_DEFAULT, policy: undefined };
  const { name } = asked;
  if (name === '' || /[\n\0]/.test(name)) throw invalid(name, 'is not the name of a profile');
  const compiled = profiles === 'files' ? 'no AppArmor' : await loadedPolicy(name, securityFs);
  if (compiled === 'unknown' || (compiled === 'no AppArmor' && profiles === 'kernel'))
    throw invalid(name, "is not loaded in the node's kernel");
  if (compiled !== 'no AppArmor') return { name, policy: { kind: 'compiled', data: compiled } };
  const source = await sourceOf(name, directory);
  if (source) return { name, policy: { kind: 'source', data: source } };
  throw invalid(name, `is in no file of ${directory}${profiles === 'auto' ? ', and the node has no AppArmor' : ''}`);
}

const invalid = (name: string, why: string): CaissonError =>
  new CaissonError('invalid_argument', `${FIELD}: profile ${JSON.stringify(name)} ${why}`);

/**
 * The field of today, else its predecessor, a string; nothing at all means the default, as the contract has it. A
 * privileged container has a profile only if it names one.
 */
export function askedProfile({ linux }: ContainerConfig): Asked {
  const security = linux?.security_context;
  const byDefault: Asked = { kind: security?.privileged ? 'unconfined' : 'runtime-default' };
  if (security?.apparmor) {
    const { profile_type: type, localhost_ref: name } = security.apparmor;
    if (type === 'Localhost') return { kind: 'localhost', name: name.replace(PREFIX, '') };
    return type === 'RuntimeDefault' ? byDefault : { kind: 'unconfined' };
  }
  const profile = security?.apparmor_profile ?? '';
  if (profile === '' || profile === 'runtime/default') return byDefault;
  if (profile === 'unconfined') return { kind: 'unconfined' };
  if (PREFIX.test(profile)) return { kind: 'localhost', name: profile.replace(PREFIX, '') };
  throw new CaissonError('invalid_argument', `${FIELD}_profile: ${JSON.stringify(profile)} is no kind of profile`);
}

/** kubelets write it before the name in the old field, and some clients in the new one, too */
const PREFIX = /^localhost\//;
