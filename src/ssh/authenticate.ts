import type { AuthContext, PublicKeyAuthContext } from 'ssh2';
import { idOf, type AuthorizedKey } from './authorized-keys.ts';
import type { KeyFile } from './key-file.ts';

/** Whether a client that asks may go on: it has proved to hold a key, may prove it, or has been refused. */
export type Decision = { readonly proved: AuthorizedKey } | 'known' | 'refused';

/** By key only. */
export async function decide(context: AuthContext, file: KeyFile): Promise<Decision> {
  if (context.method !== 'publickey') return 'refused';
  const { keys } = await file.keys();
  const entry = keys.get(idOf(context.key.data));
  if (!entry) return 'refused';
  if (context.signature === undefined) return 'known';
  return signed(context, entry) ? { proved: entry } : 'refused';
}

function signed({ signature, blob, ...context }: PublicKeyAuthContext, { key }: AuthorizedKey): boolean {
  // the type declarations leave it out
  const { hashAlgo } = context as { readonly hashAlgo?: string };
  // without a name it would be SHA-1
  if (signature === undefined || blob === undefined || (key.type === 'ssh-rsa') !== (hashAlgo !== undefined))
    return false;
  // an Error for what is no signature at all
  const verified: unknown = key.verify(blob, signature, hashAlgo);
  return verified === true;
}
