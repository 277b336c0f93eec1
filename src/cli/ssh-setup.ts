/** `caisson ssh setup`: a key, the gateway's list of keys, and the Host block of the user's ssh. Can be repeated. */
import { mkdir, readFile, stat } from 'node:fs/promises';
import { homedir, hostname, userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import ssh2 from 'ssh2';
import type { ParsedKey } from 'ssh2';
import type { Config } from '../config/schema.ts';
import { CaissonError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { ignoreMissing, readFileIfExists, writeFileAtomic } from '../lib/files.ts';
import { parseAuthorizedKeys } from '../ssh/authorized-keys.ts';
import { hostKey } from '../ssh/host-key.ts';
import { newKey } from '../ssh/new-key.ts';
import { REPOSITORY } from './context.ts';
import { placesOf } from './places.ts';

export const HOST = 'caisson';
export const HOST_SUFFIX = '.caisson';

export interface SetupOptions {
  readonly key?: string;
  /** of the key's line, as in authorized_keys(5) */
  readonly options?: string;
  /** instead of the user's own */
  readonly home?: string;
}

/** Returns what it did, line by line. */
export async function setUpSsh(config: Config, options: SetupOptions): Promise<string[]> {
  if (process.getuid?.() !== 0)
    throw new CaissonError('permission_denied', 'only root decides whose keys get in', {
      hint: 'run it as root; others give root their public key for the file `ssh.authorized_keys`',
    });
  const { home = homedir() } = options;
  const { ssh: places } = placesOf(config);
  const keyFile = resolve(options.key ?? join(home, '.ssh/caisson_ed25519'));
  await mkdir(join(home, '.ssh'), { recursive: true, mode: 0o700 });
  const { publicKey, said } = await userKey(keyFile);
  await mkdir(config.root, { recursive: true, mode: 0o711 });
  const { publicKey: gatewayKey } = await hostKey(places.keys);
  const done = [
    said,
    await authorize(places.authorizedKeys, publicKey, options.options),
    await writeKnownHosts(home, gatewayKey),
    await writeBlock(home, keyFile, config),
  ];
  return [...done, `now: ssh container.pod.namespace${HOST_SUFFIX}, or ssh container.pod.namespace@${HOST}`];
}

async function userKey(path: string): Promise<{ readonly publicKey: string; readonly said: string }> {
  const found = await readFile(path, 'utf8').catch(ignoreMissing(undefined));
  if (found !== undefined) {
    const key = ssh2.utils.parseKey(await readFile(`${path}.pub`, 'utf8').catch(ignoreMissing(found)));
    if (key instanceof Error) {
      throw new CaissonError('invalid_argument', `${path} cannot be read as a key: ${key.message}`, {
        hint: `put its public part beside it, as ${path}.pub`,
      });
    }
    return { publicKey: lineOf(key), said: `uses the key ${path}` };
  }
  const { privateKey, publicKey } = newKey(`${userInfo().username}@${hostname()}`);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, privateKey, 0o600);
  await writeFileAtomic(`${path}.pub`, publicKey, 0o644);
  return { publicKey: publicKey.trim(), said: `made the key ${path}` };
}

const lineOf = (key: ParsedKey): string => `${key.type} ${key.getPublicSSH().toString('base64')} ${key.comment}`.trim();

/** A key that is there already stays as it is, unless options are given. */
async function authorize(path: string, publicKey: string, options: string | undefined): Promise<string> {
  const [type = '', data = ''] = publicKey.split(' ');
  const line = `${options === undefined ? '' : `${options} `}${publicKey}`;
  const { refused } = parseAuthorizedKeys(line);
  if (refused[0]) throw new CaissonError('invalid_argument', refused[0].why);
  const before = (await readFileIfExists(path)) ?? '';
  const lines = before.split('\n').filter((text) => text !== '');
  const known = lines.some((text) => text.includes(`${type} ${data}`));
  if (known && options === undefined) return `the key is in ${path} already`;
  const others = lines.filter((text) => !text.includes(`${type} ${data}`));
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, `${[...others, line].join('\n')}\n`, 0o600);
  return `${known ? 'changed the key in' : 'added the key to'} ${path}`;
}

const knownHostsOf = (home: string): string => join(home, '.ssh/caisson_known_hosts');

async function writeKnownHosts(home: string, gatewayKey: string): Promise<string> {
  const path = knownHostsOf(home);
  await writeFileAtomic(path, `${HOST} ${gatewayKey}\n`, 0o600);
  return `wrote the gateway's own key to ${path}`;
}

const BEGIN = '# begin caisson: written by `caisson ssh setup`';
const END = '# end caisson';

async function writeBlock(home: string, keyFile: string, config: Config): Promise<string> {
  const path = join(home, '.ssh/config');
  const before = (await readFileIfExists(path)) ?? '';
  const mode = await stat(path).then(({ mode: bits }) => bits & 0o777, ignoreMissing(0o600));
  const block = blockOf(keyFile, knownHostsOf(home), config, await knownOptions());
  const after = withBlock(before, block);
  if (after === before) return `${path} has the block for Host *${HOST_SUFFIX} already`;
  await writeFileAtomic(path, after, mode);
  return `wrote the block for Host *${HOST_SUFFIX} to ${path}`;
}

/** Instead of an earlier one, else at the end: what stands before it counts first. */
export function withBlock(text: string, block: string): string {
  const from = text.indexOf(BEGIN);
  const to = text.indexOf(END, from);
  if (from >= 0 && to >= 0) return `${text.slice(0, from)}${block}${text.slice(to + END.length)}`;
  const apart = text === '' || text.endsWith('\n\n') ? '' : text.endsWith('\n') ? '\n' : '\n\n';
  return `${text}${apart}${block}\n`;
}

/**
 * OpenSSH sends keys at intervals of 20 ms since 9.5, against people who watch a network; here they go through a socket of this
 * machine.
 */
const AT_ONCE = ['ObscureKeystrokeTiming', 'no'] as const;

/**
 * Those of the block that not every client has. The client is asked: one that meets an option that it does not know reads no
 * file with it, for whatever host, and IgnoreUnknown in a Host block counts for that host only.
 */
async function knownOptions(): Promise<readonly string[]> {
  const [name, value] = AT_ONCE;
  const ask = ['-F', 'none', '-o', `${name}=${value}`, '-G', HOST];
  const known = await run('ssh', ask).then(
    () => true,
    () => false, // there may be no ssh here, too
  );
  return known ? [`${name} ${value}`] : [];
}

function blockOf(keyFile: string, knownHosts: string, config: Config, options: readonly string[]): string {
  const { socket } = placesOf(config).ssh;
  const proxy = [join(REPOSITORY, 'bin/caisson'), 'ssh-proxy', '--gateway', socket].map(quoted).join(' ');
  return [
    BEGIN,
    `Host ${HOST} *${HOST_SUFFIX}`,
    `  ProxyCommand ${proxy} %h`,
    `  IdentityFile ${quoted(keyFile)}`,
    '  IdentitiesOnly yes',
    `  HostKeyAlias ${HOST}`,
    `  UserKnownHostsFile ${quoted(knownHosts)}`,
    ...options.map((option) => `  ${option}`),
    END,
  ].join('\n');
}

/** `%` is ssh's own. */
const quoted = (text: string): string => {
  const escaped = text.replaceAll('%', '%%');
  return /[\s"']/.test(escaped) ? `"${escaped}"` : escaped;
};
