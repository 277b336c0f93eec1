import ssh2 from 'ssh2';
import { CaissonError } from '../lib/errors.ts';

export interface NewKey {
  /** both in OpenSSH's format, with an end of line */
  readonly privateKey: string;
  readonly publicKey: string;
}

const ATTEMPTS = 10;

/** A new ed25519 key. One in 256 of ssh2's own is broken, because it takes a leading zero away: then there is another. */
export function newKey(comment: string): NewKey {
  for (let i = 0; i < ATTEMPTS; i++) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment });
    if (isWhole(pair.private) && isWhole(pair.public))
      return { privateKey: `${pair.private.trim()}\n`, publicKey: `${pair.public.trim()}\n` };
  }
  throw new CaissonError('internal', 'ssh2 makes no ed25519 key that it can read');
}

/** the name with its length, and 32 bytes with theirs */
const PUBLIC_BYTES = 4 + 'ssh-ed25519'.length + 4 + 32;

function isWhole(text: string): boolean {
  const key = ssh2.utils.parseKey(text);
  return !(key instanceof Error) && key.getPublicSSH().length === PUBLIC_BYTES;
}
