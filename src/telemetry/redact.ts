/** Fields whose values are nobody's business, in the spellings of CRI, OCI and our own code, in lower case. */
const SECRET_KEYS = new Set([
  'auth',
  'authorization',
  'env',
  'envs',
  'environment',
  'identity_token',
  'identitytoken',
  'password',
  'registry_token',
  'registrytoken',
  'secret',
  'token',
]);
const REDACTED = '[redacted]';
const MAX_DEPTH = 8;

/** A copy of plain data in which the values of secret keys are gone; errors and other objects stay as they are. */
export function redact(value: unknown, depth = 0): unknown {
  if (depth > MAX_DEPTH) return '[too deep]';
  if (Array.isArray(value)) return value.map((item: unknown) => redact(item, depth + 1));
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [
      key,
      SECRET_KEYS.has(key.toLowerCase()) && !isEmpty(child) ? REDACTED : redact(child, depth + 1),
    ]),
  );
}

/** That nothing was given is worth seeing. */
function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
