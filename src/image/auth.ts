import { CaissonError } from '../lib/errors.ts';
import type { RegistryAuth } from './contracts.ts';

/**
 * The content of a containers-auth.json(5) that holds these credentials for the given hosts and no others. Empty
 * strings count as absent, as CRI sends them. Throws `unimplemented` for a bare registry token, which skopeo takes
 * by argument only, where every user of the host could read it.
 */
export function authFile(auth: RegistryAuth | undefined, hosts: readonly string[]): string {
  const credentials = auth && encode(auth);
  return JSON.stringify({ auths: Object.fromEntries(credentials ? hosts.map((host) => [host, credentials]) : []) });
}

function encode(auth: RegistryAuth): { auth: string; identitytoken?: string } | undefined {
  // skopeo drops an identity token that has no user
  if (auth.identityToken) return { auth: basic(auth.username || '<token>', ''), identitytoken: auth.identityToken };
  if (auth.username) return { auth: basic(auth.username, auth.password ?? '') };
  if (auth.auth) return { auth: auth.auth };
  if (auth.registryToken) {
    throw new CaissonError('unimplemented', 'pulling with a registry token is not supported', {
      hint: 'use a user name and password, or an identity token',
    });
  }
  return undefined;
}

function basic(user: string, password: string): string {
  return Buffer.from(`${user}:${password}`).toString('base64');
}
