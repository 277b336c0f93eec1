import type { Image, ImageLayer } from '../image/contracts.ts';
import type { LiveSandbox, PodContext } from './context.ts';

/** A disk's serial has at most 26 characters: the guest finds a layer by the start of its diff id. */
export const layerSerial = ({ diffId }: ImageLayer): string => diffId.slice('sha256:'.length).slice(0, 24);

/** Plugs in the disks that the VM does not have yet. */
export async function attachLayers(
  live: LiveSandbox,
  layers: readonly ImageLayer[],
  signal: AbortSignal,
): Promise<void> {
  const unique = new Map(layers.map((layer) => [layerSerial(layer), layer.path]));
  for (const [serial, path] of unique)
    await live.vm.attachDisk({ serial, path, format: 'raw', readOnly: true }, signal);
}

/** Keeps the layers of all of them on disk. */
export function holdImages(context: PodContext, images: readonly Pick<Image, 'id'>[]): Disposable {
  using undo = new DisposableStack();
  for (const { id } of images) undo.use(context.images.hold(id));
  return undo.move();
}
