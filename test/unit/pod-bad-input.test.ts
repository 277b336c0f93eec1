/** What no pod and no container can be made with; the integration test of this name has what needs a guest. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import type { ContainerConfig as WireContainer } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { LinuxContainerResources as WireResources } from '../../proto/generated/runtime/runtime/v1/LinuxContainerResources.ts';
import type { Mount } from '../../proto/generated/runtime/runtime/v1/Mount.ts';
import type { PodSandboxConfig as WirePod } from '../../proto/generated/runtime/runtime/v1/PodSandboxConfig.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { ContainerConfig, LinuxContainerResources, PodSandboxConfig } from '../../src/pod/contracts.ts';
import { ociLimits } from '../../src/pod/oci-resources.ts';
import { validateContainer, validateSandbox } from '../../src/pod/validate.ts';

const { service } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1.RuntimeService;

const pod = (fields: WirePod): PodSandboxConfig => {
  const config = { metadata: { name: 'n', namespace: 'ns', uid: 'u' }, ...fields };
  const codec = service.RunPodSandbox;
  return (codec.requestDeserialize(codec.requestSerialize({ config })) as unknown as { config: PodSandboxConfig })
    .config;
};
const container = (fields: WireContainer): ContainerConfig => {
  const config = { metadata: { name: 'n' }, image: { image: 'i' }, ...fields };
  const codec = service.CreateContainer;
  return (codec.requestDeserialize(codec.requestSerialize({ config })) as unknown as { config: ContainerConfig })
    .config;
};
const limits = (resources: WireResources): LinuxContainerResources => {
  const { linux } = container({ linux: { resources } });
  assert.ok(linux?.resources);
  return linux.resources;
};

describe('a pod is refused', () => {
  const refused: [string, WirePod, RegExp][] = [
    ['a name with a line break', { metadata: { name: 'a\nb', namespace: 'ns', uid: 'u' } }, /metadata\.name/],
    ['a host name with a line break', { hostname: 'a\nb' }, /config\.hostname/],
    ['a host name that ends with one', { hostname: 'a\n' }, /config\.hostname/],
    ['a host name over 64 bytes', { hostname: 'a'.repeat(65) }, /config\.hostname/],
    ['a relative log directory', { log_directory: 'logs' }, /log_directory/],
    ['a log directory that leaves its place', { log_directory: '/var/log/pods/../../../etc' }, /log_directory.*"\.\."/],
    ['a name server that is none', { dns_config: { servers: ['1.2.3.4\nsearch x'] } }, /dns_config\.servers/],
    ['a negative limit', { linux: { resources: { memory_limit_in_bytes: '-1' } } }, /resources\.memory.*negative/],
    ['a negative overhead', { linux: { overhead: { memory_limit_in_bytes: '-1' } } }, /overhead\.memory.*negative/],
    [
      'one port of the node for two of its own',
      {
        port_mappings: [
          { container_port: 80, host_port: 8080 },
          { container_port: 81, host_port: 8080 },
        ],
      },
      /host_port: TCP 8080 is asked for twice/,
    ],
    ['a port that is none', { port_mappings: [{ container_port: 65_536 }] }, /container_port/],
    [
      'more than one mapping of ids',
      {
        linux: {
          security_context: {
            namespace_options: {
              userns_options: {
                mode: 'POD',
                uids: [{ length: 1 }, { length: 1 }],
                gids: [{ length: 1 }],
              },
            },
          },
        },
      },
      /userns_options.*exactly one/,
    ],
  ];
  for (const [what, fields, message] of refused)
    it(`for ${what}`, () =>
      assert.throws(() => validateSandbox(pod(fields), ''), { code: 'invalid_argument', message }));

  it('not for ports that differ in protocol, address or number, or are not of the node', () =>
    validateSandbox(
      pod({
        port_mappings: [
          { host_port: 53 },
          { host_port: 53, protocol: 'UDP' },
          { host_port: 53, host_ip: '127.0.0.1' },
          { host_port: 54 },
          { container_port: 1 },
          { container_port: 1 },
        ],
      }),
      '',
    ));
});

describe('a container is refused', () => {
  const env = (key: string, value: Buffer | string) => ({ envs: [{ key, value: Buffer.from(value) }] });
  const mount = (fields: Mount) => ({ mounts: [{ container_path: '/a', host_path: '/h', ...fields }] });
  const device = (fields: object) => ({
    devices: [{ container_path: '/dev/a', host_path: '/dev/a', permissions: 'rw', ...fields }],
  });
  const volume = { host_path: '', image: { image: 'i' } };
  const range = (container_id: number, length: number) => [{ container_id, host_id: 0, length }];
  const rro = { readonly: true, recursive_read_only: true };
  const refused: [string, WireContainer, RegExp][] = [
    ['a variable whose name has a line break', env('A\nB', 'x'), /config\.envs/],
    ['a variable whose name has "="', env('A=B', 'x'), /config\.envs/],
    ['a variable without a name', env('', 'x'), /config\.envs/],
    ['a value with a NUL', env('A', 'x\0'), /config\.envs/],
    ['a value that is not UTF-8', env('A', Buffer.from([0xff])), /config\.envs.*UTF-8/],
    ['a log that leaves its directory', { log_path: 'a/../../b' }, /log_path/],
    ['a relative working directory', { working_dir: 'a' }, /working_dir/],
    ['a group without a user', { linux: { security_context: { run_as_group: { value: '1' } } } }, /run_as_group/],
    ['a mount on the root', mount({ container_path: '//' }), /container_path.*root/],
    ['a mount on a path with ".."', mount({ container_path: '/a/../etc' }), /container_path.*"\.\."/],
    ['a mount of a path with ".."', mount({ host_path: '/a/../etc' }), /host_path.*"\.\."/],
    ['a mount of a relative path', mount({ host_path: 'a' }), /host_path/],
    ['a mount of nothing', mount({ host_path: '' }), /host_path/],
    ['a mount that is to appear on the node', mount({ propagation: 'PROPAGATION_BIDIRECTIONAL' }), /propagation/],
    ['RRO without readonly', mount({ recursive_read_only: true }), /recursive_read_only.*readonly/],
    ['RRO with propagation', mount({ ...rro, propagation: 'PROPAGATION_HOST_TO_CONTAINER' }), /recursive_read_only/],
    ['an image volume that is to be written', mount(volume), /readonly.*read-only/],
    ['an image volume with a host path', mount({ ...volume, host_path: '/h', readonly: true }), /host_path/],
    ['an image subpath with ".."', mount({ ...volume, readonly: true, image_sub_path: 'a/../..' }), /image_sub_path/],
    ['an absolute image subpath', mount({ ...volume, readonly: true, image_sub_path: '/etc' }), /image_sub_path/],
    ['mappings of users alone', mount({ uidMappings: range(0, 1) }), /gidMappings/],
    ['a mapping of nothing', mount({ uidMappings: range(0, 0), gidMappings: range(0, 1) }), /uidMappings/],
    [
      'a mapping beyond the last id',
      mount({ uidMappings: range(0, 1), gidMappings: range(4_294_967_295, 2) }),
      /gidMappings/,
    ],
    ['a device with ".."', device({ host_path: '/dev/../etc' }), /devices\.host_path/],
    ['a device at a relative path', device({ container_path: 'dev' }), /devices\.container_path/],
    ['a device with permissions that are none', device({ permissions: 'rx' }), /devices\.permissions/],
  ];
  for (const [what, fields, message] of refused)
    it(`for ${what}`, () =>
      assert.throws(() => validateContainer(container(fields)), { code: 'invalid_argument', message }));

  it('not for a value with line breaks, as a certificate has them', () =>
    validateContainer(container(env('A', 'x\ny'))));
});

describe('limits are refused', () => {
  const refused: [string, WireResources, RegExp][] = [
    ['negative memory', { memory_limit_in_bytes: '-1' }, /memory_limit_in_bytes: -1 is negative/],
    ['a negative quota that is not -1', { cpu_quota: '-2' }, /cpu_quota: -2 is negative/],
    ['a quota shorter than the kernel counts', { cpu_quota: '999' }, /cpu_quota/],
    ['a period longer than a second', { cpu_period: '1000001' }, /cpu_period/],
    ['a period shorter than a millisecond', { cpu_period: '999' }, /cpu_period/],
    ['shares beyond the scale', { cpu_shares: '262145' }, /cpu_shares/],
    ['memory with swap below memory', { memory_limit_in_bytes: '2', memory_swap_limit_in_bytes: '1' }, /swap/],
    ['a score beyond the scale', { oom_score_adj: '1001' }, /oom_score_adj/],
    ['a page size that is none', { hugepage_limits: [{ page_size: '../x', limit: '1' }] }, /hugepage_limits/],
    ['a file outside of the cgroup', { unified: { '../cgroup.procs': '1' } }, /unified/],
    ['a file below another cgroup', { unified: { 'a/memory.max': '1' } }, /unified/],
  ];
  for (const [what, resources, message] of refused)
    it(`for ${what}`, () => assert.throws(() => ociLimits(limits(resources)), { code: 'invalid_argument', message }));

  it('not at the ends of each scale, and 0 and -1 mean none', () => {
    assert.deepEqual(ociLimits(limits({ cpu_quota: '-1', memory_swap_limit_in_bytes: '-1' })), {});
    const cpu = { cpu_quota: '1000', cpu_period: '1000000', cpu_shares: '2', oom_score_adj: '-1000' };
    assert.deepEqual(ociLimits(limits(cpu)), { cpu: { quota: 1000, period: 1_000_000, shares: 2 } });
  });
});
