import { formatReference, parse } from './reference.ts';
import type { ImageRecord } from './record.ts';

const ID = /^(?:sha256:)?([0-9a-f]{4,64})$/;
const FULL_ID_LENGTH = 64;

/**
 * The image that a reference means: a full id, else a name (tag, digest, or untagged for `latest`), else a prefix of at
 * least 4 digits of one id. A name wins over a prefix: `beef` may well be an image.
 */
export function findRecord(records: ReadonlyMap<string, ImageRecord>, reference: string): ImageRecord | undefined {
  const hex = ID.exec(reference)?.[1];
  if (hex?.length === FULL_ID_LENGTH) return records.get(`sha256:${hex}`);
  const all = [...records.values()];
  const parsed = parse(reference);
  const name = parsed && formatReference(parsed);
  const named = name && all.find((record) => record.repoTags.includes(name) || record.repoDigests.includes(name));
  if (named || hex === undefined) return named || undefined;
  const candidates = all.filter(({ id }) => id.startsWith(`sha256:${hex}`));
  return candidates.length === 1 ? candidates[0] : undefined;
}
