import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ImageConfig } from '../../src/image/contracts.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { ContainerConfig } from '../../src/pod/contracts.ts';
import { capabilitySets } from '../../src/pod/oci-capabilities.ts';
import { ociSpec, processArgs, type OciSpecInput } from '../../src/pod/oci-spec.ts';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';

const image: ImageConfig = {
  user: '',
  env: ['PATH=/bin', 'A=image'],
  entrypoint: ['/entry'],
  cmd: ['default'],
  workingDir: '/work',
  volumes: [],
  stopSignal: '',
  labels: {},
};

const { RuntimeService } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1;
const codec = RuntimeService.service.CreateContainer;

/** A config as it comes over the wire: every field present. */
function config(fields: object): ContainerConfig {
  const request = codec.requestDeserialize(codec.requestSerialize({ config: fields }));
  return (request as unknown as { config: ContainerConfig }).config;
}

interface Spec {
  readonly process: {
    readonly args: string[];
    readonly env: string[];
    readonly cwd: string;
    readonly oomScoreAdj: number;
  };
  readonly root: { readonly readonly: boolean };
  readonly mounts: readonly {
    readonly type: string;
    readonly destination: string;
    readonly options: readonly string[];
  }[];
  readonly linux: {
    readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
    readonly uidMappings: readonly object[];
    readonly gidMappings: readonly object[];
    readonly maskedPaths: readonly string[];
    readonly resources: { readonly memory?: { readonly limit: number }; readonly cpu?: object };
  };
}

const build = (fields: object, pod: Pick<OciSpecInput, 'userNamespace'> = {}): Spec =>
  ociSpec({
    ...pod,
    containerId: 'c1',
    config: config(fields),
    sandboxConfig: { hostname: 'web' },
    image,
    mounts: [],
    devices: [],
  }) as Spec;

describe('the OCI spec of a container', () => {
  it('takes command and arguments as Kubernetes means them', () => {
    const cases: [object, string[]][] = [
      [{}, ['/entry', 'default']],
      [{ args: ['x'] }, ['/entry', 'x']],
      [{ command: ['/c'] }, ['/c']],
      [{ command: ['/c'], args: ['x'] }, ['/c', 'x']],
    ];
    for (const [fields, expected] of cases) assert.deepEqual(processArgs(config(fields), image), expected);
  });

  it('lets the config win over the image in environment and directory', () => {
    const spec = build({ envs: [{ key: 'A', value: Buffer.from('config') }], working_dir: '/mine' });
    assert.ok(spec.process.env.includes('A=config') && spec.process.env.includes('PATH=/bin'));
    assert.ok(spec.process.env.includes('HOSTNAME=web'));
    assert.equal(spec.process.cwd, '/mine');
    assert.equal(build({}).process.cwd, '/work');
  });

  it('has the pid namespace that was asked for, and never one of network, ipc or uts', () => {
    const namespaces = (options: object) =>
      build({ linux: { security_context: { namespace_options: options } } }).linux.namespaces;
    const rest = [{ type: 'mount' }, { type: 'cgroup' }];
    assert.deepEqual(namespaces({ pid: 'CONTAINER' }), [{ type: 'pid' }, ...rest]);
    assert.deepEqual(namespaces({ pid: 'POD' }), [{ type: 'pid', path: 'caisson:pid-of-pod' }, ...rest]);
    const joined = { type: 'pid', path: 'caisson:pid-of:abc' };
    assert.deepEqual(namespaces({ pid: 'TARGET', target_id: 'abc' }), [joined, ...rest]);
    assert.deepEqual(namespaces({ pid: 'NODE' }), rest);
  });

  it('has a user namespace of its own with the mapping of its pod', () => {
    const mapping = { container_id: 0, host_id: 1000, length: 10 };
    const userNamespace = { uids: mapping, gids: { ...mapping, host_id: 2000 } };
    const { linux, mounts } = build(
      { linux: { security_context: { namespace_options: { pid: 'POD' } } } },
      { userNamespace },
    );
    assert.deepEqual(linux.namespaces[0], { type: 'user' });
    assert.deepEqual(linux.namespaces[1], { type: 'pid' });
    assert.deepEqual(linux.uidMappings, [{ containerID: 0, hostID: 1000, size: 10 }]);
    assert.deepEqual(linux.gidMappings, [{ containerID: 0, hostID: 2000, size: 10 }]);
    assert.deepEqual(linux.maskedPaths, []);
    assert.equal(mounts.find(({ destination }) => destination === '/dev/mqueue')?.type, 'bind');
  });

  it('masks nothing for a privileged container and mounts /sys writable for it', () => {
    const spec = build({ linux: { security_context: { privileged: true } } });
    assert.deepEqual(spec.linux.maskedPaths, []);
    assert.ok(spec.mounts.find(({ destination }) => destination === '/sys')?.options.includes('rw'));
    assert.ok(
      build({})
        .mounts.find(({ destination }) => destination === '/sys')
        ?.options.includes('ro'),
    );
  });

  it('maps limits, refuses negative ones and keeps the OOM score above the agent’s', () => {
    const resources = { memory_limit_in_bytes: '1048576', cpu_quota: '-1', oom_score_adj: '-1000' };
    const spec = build({ linux: { resources, security_context: { readonly_rootfs: true } } });
    assert.deepEqual(spec.linux.resources.memory, { limit: 1_048_576 });
    assert.equal(spec.linux.resources.cpu, undefined);
    assert.equal(spec.process.oomScoreAdj, -999);
    assert.equal(spec.root.readonly, true);
    assert.throws(() => build({ linux: { resources: { memory_limit_in_bytes: '-5' } } }), /memory_limit_in_bytes: -5/);
  });
});

describe('capabilities', () => {
  const sets = (asked: object, privileged = false): readonly string[] =>
    (
      capabilitySets(
        { add_capabilities: [], drop_capabilities: [], add_ambient_capabilities: [], ...asked },
        privileged,
      ) as {
        bounding: readonly string[];
      }
    ).bounding;

  it('drops before it adds', () => {
    assert.ok(!sets({}).includes('CAP_SYS_ADMIN') && sets({}).includes('CAP_CHOWN'));
    assert.deepEqual(sets({ drop_capabilities: ['ALL'] }), []);
    assert.deepEqual(sets({ drop_capabilities: ['ALL'], add_capabilities: ['NET_ADMIN'] }), ['CAP_NET_ADMIN']);
    assert.deepEqual(sets({ drop_capabilities: ['cap_chown'] }).includes('CAP_CHOWN'), false);
    assert.equal(sets({ add_capabilities: ['ALL'] }).length, 41);
    assert.ok(!sets({ add_capabilities: ['ALL'], drop_capabilities: ['CHOWN'] }).includes('CAP_CHOWN'));
    assert.equal(sets({}, true).length, 41);
  });

  it('refuses what is none', () => {
    assert.throws(() => sets({ add_capabilities: ['SYS_GOD'] }), /"SYS_GOD" is not a capability/);
  });
});
