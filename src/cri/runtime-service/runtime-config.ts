import type { RuntimeConfigRequest__Output } from '../../../proto/generated/runtime/runtime/v1/RuntimeConfigRequest.ts';
import type { RuntimeConfigResponse } from '../../../proto/generated/runtime/runtime/v1/RuntimeConfigResponse.ts';
import type { CriServices } from '../options.ts';
import type { Rpc } from '../unary.ts';

/** With SYSTEMD the kubelet names the pods' cgroups as slices. */
export function runtimeConfig({
  cgroupDriver,
}: Pick<CriServices, 'cgroupDriver'>): Rpc<RuntimeConfigRequest__Output, RuntimeConfigResponse> {
  const cgroup_driver = cgroupDriver === 'systemd' ? 'SYSTEMD' : 'CGROUPFS';
  return () => ({ linux: { cgroup_driver } });
}
