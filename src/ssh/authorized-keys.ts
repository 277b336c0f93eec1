/** The file of keys that get in: authorized_keys(5), with options of our own. */
import { createHash, createPublicKey } from 'node:crypto';
import ssh2 from 'ssh2';
import type { ParsedKey } from 'ssh2';
import { CaissonError, describeError } from '../lib/errors.ts';
import { permitsOf, type KeyOption, type Permits } from './permits.ts';

export interface AuthorizedKey {
  readonly key: ParsedKey;
  /** as in `ssh-keygen -l`: `SHA256:...` */
  readonly fingerprint: string;
  readonly comment: string;
  readonly permits: Permits;
}

export interface AuthorizedKeys {
  /** by the public key's bytes, in base64 */
  readonly keys: ReadonlyMap<string, AuthorizedKey>;
  /** lines that are not used, and why */
  readonly refused: readonly { readonly line: number; readonly why: string }[];
}

const KEY_TYPES = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521', 'ssh-rsa'];
const LEAST_RSA_BITS = 2048;
const MAX_LINE_CHARS = 16 * 1024;

export function parseAuthorizedKeys(text: string): AuthorizedKeys {
  const keys = new Map<string, AuthorizedKey>();
  const refused: { line: number; why: string }[] = [];
  text.split('\n').forEach((raw, index) => {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return;
    try {
      const entry = parseLine(line);
      const id = idOf(entry.key.getPublicSSH());
      if (keys.has(id)) throw new CaissonError('invalid_argument', 'the same key is on an earlier line');
      keys.set(id, entry);
    } catch (error) {
      refused.push({ line: index + 1, why: describeError(error) });
    }
  });
  return { keys, refused };
}

export const idOf = (publicKey: Buffer): string => publicKey.toString('base64');

export function fingerprintOf(publicKey: Buffer): string {
  return `SHA256:${createHash('sha256').update(publicKey).digest('base64').replace(/=+$/, '')}`;
}

function parseLine(line: string): AuthorizedKey {
  if (line.length > MAX_LINE_CHARS) throw new CaissonError('invalid_argument', 'the line is too long');
  const { options, rest } = /^(ssh-|ecdsa-|sk-)\S+ /.test(line) ? { options: [], rest: line } : splitOptions(line);
  const [type = '', data = '', ...comment] = rest.split(/\s+/);
  const key = parsedKey(type, data);
  return {
    key,
    fingerprint: fingerprintOf(key.getPublicSSH()),
    comment: comment.join(' '),
    permits: permitsOf(options),
  };
}

function parsedKey(type: string, data: string): ParsedKey {
  if (!KEY_TYPES.includes(type)) {
    throw new CaissonError('invalid_argument', `keys of the type ${JSON.stringify(type.slice(0, 50))} are not taken`, {
      hint: 'use ssh-ed25519, ecdsa-sha2-* or ssh-rsa',
    });
  }
  const key = ssh2.utils.parseKey(`${type} ${data}`);
  if (key instanceof Error || key.type !== type || key.isPrivateKey())
    throw new CaissonError('invalid_argument', 'the key cannot be read', { cause: key });
  const bits = createPublicKey(key.getPublicPEM()).asymmetricKeyDetails?.modulusLength;
  if (type === 'ssh-rsa' && (bits ?? 0) < LEAST_RSA_BITS)
    throw new CaissonError('invalid_argument', `RSA keys need at least ${LEAST_RSA_BITS} bits`);
  return key;
}

/** `name,name="value with \" in it" rest` */
function splitOptions(line: string): { readonly options: KeyOption[]; readonly rest: string } {
  const options: KeyOption[] = [];
  const option = /([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(,|\s+)/y;
  for (;;) {
    const match = option.exec(line);
    if (!match) throw new CaissonError('invalid_argument', 'the options cannot be read');
    const [, name = '', value, separator] = match;
    options.push({ name: name.toLowerCase(), value: value?.replaceAll('\\"', '"') });
    if (separator !== ',') return { options, rest: line.slice(option.lastIndex) };
  }
}
