import type { AuthConfig__Output } from '../../../proto/generated/runtime/runtime/v1/AuthConfig.ts';
import type { PullImageRequest__Output } from '../../../proto/generated/runtime/runtime/v1/PullImageRequest.ts';
import type { PullImageResponse } from '../../../proto/generated/runtime/runtime/v1/PullImageResponse.ts';
import type { RegistryAuth } from '../../image/contracts.ts';
import { CaissonError, isCaissonError } from '../../lib/errors.ts';
import type { CriServices } from '../options.ts';
import { requireImage } from '../require.ts';
import type { Rpc } from '../unary.ts';

/** The answer's image_ref is the Image.id of every other RPC. */
export function pullImage({ images }: Pick<CriServices, 'images'>): Rpc<PullImageRequest__Output, PullImageResponse> {
  return async (request, context) => {
    const reference = requireImage(context, 'image', request.image);
    try {
      const image = await images.pull(reference, toRegistryAuth(request.auth), context.signal);
      return { image_ref: image.id };
    } catch (error) {
      throw namedForKubelet(error);
    }
  };
}

/** Leaves empty fields out; undefined when all are empty. */
function toRegistryAuth(auth: AuthConfig__Output | null): RegistryAuth | undefined {
  if (!auth) return undefined;
  const { username, password, auth: basic, identity_token, registry_token } = auth;
  const given: RegistryAuth = {
    ...(username && { username }),
    ...(password && { password }),
    ...(basic && { auth: basic }),
    ...(identity_token && { identityToken: identity_token }),
    ...(registry_token && { registryToken: registry_token }),
  };
  return Object.keys(given).length > 0 ? given : undefined;
}

/** The kubelet reports these as what they are, if the message starts with its word for it. */
const KUBELET_WORDS = { unavailable: 'RegistryUnavailable', untrusted: 'SignatureValidationFailed' } as const;

function namedForKubelet(error: unknown): unknown {
  if (!isCaissonError(error, 'unavailable') && !isCaissonError(error, 'untrusted')) return error;
  const word = KUBELET_WORDS[error.code as keyof typeof KUBELET_WORDS];
  if (error.message.startsWith(word)) return error;
  return new CaissonError(error.code, `${word}: ${error.message}`, { cause: error, hint: error.hint });
}
