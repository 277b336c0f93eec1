import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { CaissonError } from '../lib/errors.ts';
import { ignoreMissing, writeFileAtomic } from '../lib/files.ts';
import { newKey } from './new-key.ts';

export interface HostKey {
  /** in OpenSSH's format */
  readonly privateKey: string;
  /** `ssh-ed25519 AAAA...` */
  readonly publicKey: string;
}

const NAME = 'host_ed25519_key';

/** The gateway's own key, made at the first time; only its owner can read it. */
export async function hostKey(directory: string): Promise<HostKey> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, NAME);
  const found = await readFile(path, 'utf8').catch(ignoreMissing(undefined));
  if (found !== undefined) {
    await chmod(path, 0o600);
    return { privateKey: found, publicKey: publicPart(found, path) };
  }
  const { privateKey } = newKey('caisson');
  await writeFileAtomic(path, privateKey, 0o600);
  return { privateKey, publicKey: publicPart(privateKey, path) };
}

function publicPart(privateKey: string, path: string): string {
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error || key.type !== 'ssh-ed25519' || !key.isPrivateKey()) {
    throw new CaissonError('failed_precondition', `${path} is not an ed25519 key without a password`, {
      cause: key,
      hint: `remove it: a new one is made, and clients are warned of the change`,
    });
  }
  return `${key.type} ${key.getPublicSSH().toString('base64')}`;
}
