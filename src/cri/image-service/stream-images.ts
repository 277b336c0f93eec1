import type { StreamImagesRequest__Output } from '../../../proto/generated/runtime/runtime/v1/StreamImagesRequest.ts';
import type { StreamImagesResponse } from '../../../proto/generated/runtime/runtime/v1/StreamImagesResponse.ts';
import type { CriServices } from '../options.ts';
import { inMessages, type StreamRpc } from '../stream.ts';
import { selectImages, toImage } from './messages.ts';

export function streamImages({
  images,
}: Pick<CriServices, 'images'>): StreamRpc<StreamImagesRequest__Output, StreamImagesResponse> {
  return function* (request) {
    const items = selectImages(images, request.filter).map(toImage);
    for (const message of inMessages(items)) yield { images: message };
  };
}
