import type { RuntimeConfigRequest__Output } from '../../../proto/generated/runtime/runtime/v1/RuntimeConfigRequest.ts';
import type { RuntimeConfigResponse } from '../../../proto/generated/runtime/runtime/v1/RuntimeConfigResponse.ts';
import type { Rpc } from '../unary.ts';

export function runtimeConfig(): Rpc<RuntimeConfigRequest__Output, RuntimeConfigResponse> {
  // with SYSTEMD the kubelet would name the pods' cgroups as systemd slices
  return () => ({ linux: { cgroup_driver: 'CGROUPFS' } });
}
