import { CaissonError } from '../lib/errors.ts';

/** An image name, normalised as containerd and Docker do: `busybox` is `docker.io/library/busybox:latest`. */
export interface Reference {
  /** host[:port] */
  readonly domain: string;
  readonly path: string;
  /** absent exactly when `digest` is there: a digest makes a tag meaningless */
  readonly tag?: string;
  /** `sha256:<hex>` */
  readonly digest?: string;
}

const DEFAULT_DOMAIN = 'docker.io';
const MAX_NAME_LENGTH = 255;

const HOST = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/;
const PATH = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const BARE_ID = /^[0-9a-f]{64}$/;

export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/** Throws `invalid_argument` when `text` is not an image name. */
export function parseReference(text: string): Reference {
  const reference = parse(text);
  if (reference) return reference;
  throw new CaissonError('invalid_argument', `"${text.slice(0, MAX_NAME_LENGTH)}" is not an image name`, {
    hint: 'expected [registry[:port]/]repository[:tag][@sha256:digest], the repository in lower case',
  });
}

/** Like parseReference, for text that may be something else. */
export function parse(text: string): Reference | undefined {
  if (BARE_ID.test(text)) return undefined;
  const [name, digest, ...more] = text.split('@');
  if (name === undefined || more.length > 0 || (digest !== undefined && !DIGEST.test(digest))) return undefined;
  const { rest, tag } = splitTag(name);
  if (tag !== undefined && !TAG.test(tag)) return undefined;
  const { domain, path } = splitDomain(rest);
  if (!HOST.test(domain) || !PATH.test(path) || domain.length + path.length >= MAX_NAME_LENGTH) return undefined;
  return digest === undefined ? { domain, path, tag: tag ?? 'latest' } : { domain, path, digest };
}

function splitTag(name: string): { rest: string; tag: string | undefined } {
  const colon = name.lastIndexOf(':');
  // a colon before a slash belongs to the registry's port
  if (colon === -1 || name.includes('/', colon)) return { rest: name, tag: undefined };
  return { rest: name.slice(0, colon), tag: name.slice(colon + 1) };
}

function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const domain = isHost && first !== 'index.docker.io' ? first : DEFAULT_DOMAIN;
  const path = isHost ? name.slice(slash + 1) : name;
  const isOfficial = domain === DEFAULT_DOMAIN && !path.includes('/');
  return { domain, path: isOfficial ? `library/${path}` : path };
}

/** The name without tag and digest, such as `docker.io/library/busybox`. */
export function repository(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** The full name, such as `docker.io/library/busybox:latest` or `docker.io/library/busybox@sha256:...`. */
export function formatReference(reference: Reference): string {
  return reference.digest === undefined
    ? `${repository(reference)}:${reference.tag}`
    : `${repository(reference)}@${reference.digest}`;
}
