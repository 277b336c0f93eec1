import type { FilesystemUsage } from '../../../proto/generated/runtime/runtime/v1/FilesystemUsage.ts';
import type { ImageFsInfoRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ImageFsInfoRequest.ts';
import type { ImageFsInfoResponse } from '../../../proto/generated/runtime/runtime/v1/ImageFsInfoResponse.ts';
import type { FsUsage } from '../../image/contracts.ts';
import type { CriServices } from '../options.ts';
import { nowNs } from '../time.ts';
import type { Rpc } from '../unary.ts';

export function imageFsInfo({
  images,
  containerFs,
}: Pick<CriServices, 'images' | 'containerFs'>): Rpc<ImageFsInfoRequest__Output, ImageFsInfoResponse> {
  return async () => {
    const [image, container] = await Promise.all([images.usage(), containerFs?.()]);
    return {
      image_filesystems: [toFilesystemUsage(image)],
      container_filesystems: container ? [toFilesystemUsage(container)] : [],
    };
  };
}

function toFilesystemUsage({ mountpoint, usedBytes, inodesUsed }: FsUsage): FilesystemUsage {
  return {
    timestamp: nowNs(),
    fs_id: { mountpoint },
    used_bytes: { value: usedBytes },
    inodes_used: { value: inodesUsed },
  };
}
