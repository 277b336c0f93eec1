import type { VersionRequest__Output } from '../../../proto/generated/runtime/runtime/v1/VersionRequest.ts';
import type { VersionResponse } from '../../../proto/generated/runtime/runtime/v1/VersionResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';

/** The kubelet demands that no field is empty. */
export function version(services: Pick<CriServices, 'version'>): Rpc<VersionRequest__Output, VersionResponse> {
  return () => ({
    version: '0.1.0', // of the kubelet's runtime API, the only one that was ever made
    runtime_name: 'caisson',
    runtime_version: services.version,
    runtime_api_version: 'v1',
  });
}
