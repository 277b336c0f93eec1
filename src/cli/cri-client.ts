import { credentials, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import type { Image__Output } from '../../proto/generated/runtime/runtime/v1/Image.ts';
import type { ImageServiceClient } from '../../proto/generated/runtime/runtime/v1/ImageService.ts';
import { CaissonError } from '../lib/errors.ts';
import { loadProto } from '../lib/grpc/load.ts';

/** `ms` to find out that no daemon listens */
const CONNECT_TIMEOUT_MS = 3000;

/** The image service of the daemon that listens on `socket`, as the kubelet sees it. */
export interface ImageClient extends Disposable {
  list(): Promise<Image__Output[]>;
  /** Returns the image's id. */
  pull(reference: string): Promise<string>;
}

export async function connectImages(socket: string): Promise<ImageClient> {
  const { runtime } = loadProto<ProtoGrpcType>('runtime/v1/api.proto');
  const client = new runtime.v1.ImageService(`unix:${socket}`, credentials.createInsecure());
  await ready(client, socket);
  return {
    list: () => answer<Image__Output[]>((done) => client.listImages({}, (error, value) => done(error, value?.images))),
    pull: (image) =>
      answer<string>((done) => client.pullImage({ image: { image } }, (error, value) => done(error, value?.image_ref))),
    [Symbol.dispose]: () => client.close(),
  };
}

async function ready(client: ImageServiceClient, socket: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  client.waitForReady(Date.now() + CONNECT_TIMEOUT_MS, (error) => (error ? reject(error) : resolve()));
  try {
    await promise;
  } catch (cause) {
    client.close();
    throw new CaissonError('unavailable', `no caisson daemon answers on ${socket}`, {
      cause,
      hint: 'start one with `caisson serve` or `systemctl start caisson`, or name its socket with --socket',
    });
  }
}

type Done<T> = (error: ServiceError | null, value: T | undefined) => void;

async function answer<T>(call: (done: Done<T>) => unknown): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  call((error, value) => {
    if (error)
      reject(
        new CaissonError(error.code === status.UNAVAILABLE ? 'unavailable' : 'internal', error.details, {
          cause: error,
        }),
      );
    else if (value === undefined) reject(new CaissonError('internal', 'the daemon gave an empty answer'));
    else resolve(value);
  });
  return promise;
}
