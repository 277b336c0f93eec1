import type { RemoveImageRequest__Output } from '../../../proto/generated/runtime/runtime/v1/RemoveImageRequest.ts';
import type { RemoveImageResponse } from '../../../proto/generated/runtime/runtime/v1/RemoveImageResponse.ts';
import type { CriServices } from '../options.ts';
import { requireImage } from '../require.ts';
import type { Rpc } from '../unary.ts';

export function removeImage({
  images,
}: Pick<CriServices, 'images'>): Rpc<RemoveImageRequest__Output, RemoveImageResponse> {
  return async (request, context) => {
    await images.remove(requireImage(context, 'image', request.image));
    return {};
  };
}
