import { CaissonError } from '../../lib/errors.ts';
import type { ContainerConfig } from '../contracts.ts';
import { capabilitySets } from '../oci-capabilities.ts';
import { localProfile } from './local-profile.ts';
import type { SeccompProfile } from './profile.ts';
import { runtimeDefault } from './runtime-default.ts';

export type { SeccompProfile } from './profile.ts';

type Asked =
  | { readonly kind: 'unconfined' }
  | { readonly kind: 'runtime-default' }
  | { readonly kind: 'localhost'; readonly path: string };

const PATH_FIELD = 'config.linux.security_context.seccomp_profile_path';

/**
 * The profile that a container asks for; undefined when it is to run without one, as privileged ones always do. Reads
 * the file of a Localhost profile: `invalid_argument` when it cannot be used.
 */
export async function seccompProfile(config: ContainerConfig): Promise<SeccompProfile | undefined> {
  const security = config.linux?.security_context;
  if (security?.privileged) return undefined;
  const asked = askedProfile(config);
  if (asked.kind === 'unconfined') return undefined;
  if (asked.kind === 'localhost') return localProfile(asked.path);
  return runtimeDefault(capabilitySets(security?.capabilities ?? null, false).bounding);
}

/** The field of today, else its predecessor, a string; nothing at all means unconfined. */
export function askedProfile(config: ContainerConfig): Asked {
  const security = config.linux?.security_context;
  if (security?.seccomp) {
    const { profile_type, localhost_ref } = security.seccomp;
    if (profile_type === 'Localhost') return { kind: 'localhost', path: localhost_ref };
    return { kind: profile_type === 'RuntimeDefault' ? 'runtime-default' : 'unconfined' };
  }
  const path = security?.seccomp_profile_path ?? '';
  if (path === '' || path === 'unconfined') return { kind: 'unconfined' };
  if (path === 'runtime/default' || path === 'docker/default') return { kind: 'runtime-default' };
  if (path.startsWith('localhost/')) return { kind: 'localhost', path: path.slice('localhost/'.length) };
  throw new CaissonError('invalid_argument', `${PATH_FIELD}: ${JSON.stringify(path)} is no kind of profile`);
}
