/** Images as CRI messages. */
import type { Image as CriImage } from '../../../proto/generated/runtime/runtime/v1/Image.ts';
import type { ImageFilter__Output } from '../../../proto/generated/runtime/runtime/v1/ImageFilter.ts';
import type { Image, ImagePort } from '../../image/contracts.ts';

const MAX_INT64 = 2n ** 63n - 1n;

/** A filter without a name selects every image. */
export function selectImages(images: ImagePort, filter: ImageFilter__Output | null): readonly Image[] {
  const name = filter?.image?.image ?? '';
  if (name === '') return images.list();
  const found = images.find(name);
  return found ? [found] : [];
}

export function toImage(image: Image): CriImage {
  return {
    id: image.id,
    repo_tags: [...image.repoTags],
    repo_digests: [...image.repoDigests],
    size: String(image.sizeBytes),
    ...toUser(image.config.user),
    pinned: image.pinned,
  };
}

/**
 * The user without its group, as number or name; the kubelet's runAsNonRoot rests on it. Neither for an image that
 * names no user, which the kubelet takes for root.
 */
function toUser(user: string): Pick<CriImage, 'uid' | 'username'> {
  const [name = ''] = user.split(':');
  if (/^\d{1,19}$/.test(name) && BigInt(name) <= MAX_INT64) return { uid: { value: name } };
  return { username: name };
}

/** The `info` map of a verbose ImageStatus: one JSON document below `info`. */
export function imageInfo({ id, config, layers }: Image): Record<string, string> {
  const described = layers.map(({ diffId, sizeBytes }) => ({ diffId, sizeBytes }));
  return { info: JSON.stringify({ id, config, layers: described }) };
}
