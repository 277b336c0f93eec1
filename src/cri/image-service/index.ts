import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { ImageServiceHandlers } from '../../../proto/generated/runtime/runtime/v1/ImageService.ts';
import type { Logger } from '../../lib/logger.ts';
import type { CriServices } from '../options.ts';
import { serverStream } from '../stream.ts';
import { unary } from '../unary.ts';
import { imageFsInfo } from './image-fs-info.ts';
import { imageStatus } from './image-status.ts';
import { listImages } from './list-images.ts';
import { pullImage } from './pull-image.ts';
import { removeImage } from './remove-image.ts';
import { streamImages } from './stream-images.ts';

/** The handlers of the RPCs of ImageService that Caisson implements. */
export function imageService(services: CriServices, log: Logger): UntypedServiceImplementation {
  return {
    ListImages: unary('read', log, listImages(services)),
    StreamImages: serverStream(log, streamImages(services)),
    ImageStatus: unary('read', log, imageStatus(services)),
    PullImage: unary('change', log, pullImage(services)),
    RemoveImage: unary('change', log, removeImage(services)),
    ImageFsInfo: unary('read', log, imageFsInfo(services)),
  } satisfies Partial<ImageServiceHandlers>;
}
