import type { ListImagesRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListImagesRequest.ts';
import type { ListImagesResponse } from '../../../proto/generated/runtime/runtime/v1/ListImagesResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';
import { selectImages, toImage } from './messages.ts';

export function listImages({
  images,
}: Pick<CriServices, 'images'>): Rpc<ListImagesRequest__Output, ListImagesResponse> {
  return (request) => ({ images: selectImages(images, request.filter).map(toImage) });
}
