import type { ImageStatusRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ImageStatusRequest.ts';
import type { ImageStatusResponse } from '../../../proto/generated/runtime/runtime/v1/ImageStatusResponse.ts';
import type { CriServices } from '../options.ts';
import { requireImage } from '../require.ts';
import type { Rpc } from '../unary.ts';
import { imageInfo, toImage } from './messages.ts';

/** An absent image is no error but an empty answer: the kubelet asks before each pull. */
export function imageStatus({
  images,
}: Pick<CriServices, 'images'>): Rpc<ImageStatusRequest__Output, ImageStatusResponse> {
  return (request, context) => {
    const image = images.find(requireImage(context, 'image', request.image));
    if (!image) return { image: null };
    return { image: toImage(image), info: request.verbose ? imageInfo(image) : {} };
  };
}
