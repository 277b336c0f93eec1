import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { CaissonError } from '../lib/errors.ts';
import type { ErrorCode } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { ignoreMissing } from '../lib/files.ts';

/** What every call of skopeo needs. */
export interface SkopeoOptions {
  /** stands in for the user's home, so that nobody's personal settings apply; our registries are a drop-in below it */
  readonly home: string;
  /** for files of any size */
  readonly temporary: string;
  /** signature policy; empty: skopeo's own, /etc/containers/policy.json */
  readonly policy: string;
  /** credentials go by file, never by argument; absent: none */
  readonly authFile?: string;
  /** the image as errors name it */
  readonly image: string;
  readonly signal: AbortSignal;
}

/** `sha256:<hex>` of the manifest or index as the registry serves it. `source` is such as `docker://host/name:tag`. */
export async function servedDigest(source: string, options: SkopeoOptions): Promise<string> {
  const raw = await skopeo(['inspect', '--raw', ...authArguments(options), source], options);
  return `sha256:${createHash('sha256').update(raw).digest('hex')}`;
}

/** Copies the image of this platform to an OCI layout, its blobs to `blobs`/sha256 unless they are there. */
export async function copyImage(source: string, layout: string, blobs: string, options: SkopeoOptions): Promise<void> {
  // signatures have been checked by then and a layout cannot hold them
  const flags = ['--quiet', '--remove-signatures', '--dest-oci-accept-uncompressed-layers'];
  const target = [`--dest-shared-blob-dir=${blobs}`, source, `oci:${layout}:image`];
  await skopeo(['copy', ...flags, ...authArguments(options), ...target], options);
}

function authArguments(options: SkopeoOptions): string[] {
  return options.authFile === undefined ? [] : [`--authfile=${options.authFile}`];
}

async function skopeo(args: readonly string[], options: SkopeoOptions): Promise<string> {
  const policy = options.policy === '' ? [] : [`--policy=${options.policy}`];
  const result = await run('skopeo', [`--tmpdir=${options.temporary}`, ...policy, ...args], {
    signal: options.signal,
    env: { HOME: options.home, TMPDIR: options.temporary },
    okCodes: [0, 1, 2],
    installHint: 'apt-get install skopeo',
  });
  if (result.exitCode === 0) return result.stdout;
  throw skopeoError(options.image, result.stderr);
}

/** In order: the first pattern that matches skopeo's words decides. */
const CAUSES: readonly (readonly [RegExp, ErrorCode, string?])[] = [
  [/no space left|disk quota exceeded/i, 'resource_exhausted', 'free space, or remove images that nobody needs'],
  [/invalid reference format/i, 'invalid_argument'],
  [/is blocked in/i, 'permission_denied', 'registries.conf or the image.registry settings block this registry'],
  [/Source image rejected/i, 'untrusted', 'see image.signature_policy, or /etc/containers/policy.json'],
  [/policy\.json|default policy/i, 'failed_precondition', 'see image.signature_policy, or /etc/containers/policy.json'],
  [
    /no image found in (?:image index|manifest list)/i,
    'failed_precondition',
    'the image is not made for this platform',
  ],
  [/server gave HTTP response to HTTPS|x509:|tls: /i, 'unavailable', 'set insecure = true for a registry without TLS'],
  [/toomanyrequests|too many requests/i, 'unavailable', 'the registry limits how often one may pull'],
  [/no such host|dial tcp: lookup/i, 'unavailable', 'the name of the registry cannot be resolved'],
  [/unauthorized|denied|authentication required|invalid username|forbidden/i, 'permission_denied'],
  [/digest did not match/i, 'failed_precondition', 'what the registry serves is corrupt'],
  [/manifest unknown|name unknown|not found|no such file/i, 'not_found'],
  [/refused|timed? ?out|unreachable|reset by peer|EOF|deadline|50\d |server error|pinging/i, 'unavailable'],
];

const SYSTEM_POLICY = '/etc/containers/policy.json';

/** Stands for the signature policy in force, as the file is now. */
export async function policyDigest(policy: string): Promise<string> {
  const text = await readFile(policy || SYSTEM_POLICY, 'utf8').catch(ignoreMissing(''));
  return createHash('sha256').update(text).digest('hex');
}

/** The error for what skopeo printed: one sentence with the image and the registry's words. */
export function skopeoError(image: string, stderr: string): CaissonError {
  const said = fatalMessage(stderr);
  const [, code, hint] = CAUSES.find(([pattern]) => pattern.test(said)) ?? [undefined, 'internal' as const];
  return new CaissonError(code, `cannot pull ${image}: ${said}`, { hint });
}

function fatalMessage(stderr: string): string {
  const lines = stderr.trim().split('\n');
  const line = lines.findLast((text) => text.includes('level=fatal')) ?? lines.at(-1) ?? '';
  const quoted = /msg=("(?:[^"\\]|\\.)*")/.exec(line)?.[1];
  const said = (quoted === undefined ? line : unquote(quoted)).replaceAll(/\s+/g, ' ').trim();
  // it puts this before whatever the registry answered, to names that are well-formed
  return said.replace(/^Error parsing image name "[^"]*": /, '') || 'skopeo failed silently';
}

function unquote(quoted: string): string {
  try {
    return String(JSON.parse(quoted));
  } catch {
    return quoted.slice(1, -1); // Go quotes some bytes in ways JSON does not know
  }
}
