/**
 * What each field of a container's config comes to in config.json, the OCI runtime spec that crun reads: one row a field.
 * A field of the contract that has no row must be named below, or in docs/limitations.md, with what it is for.
 */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { resolveUser } from '../../guest-agent/src/users.ts';
import { parseSpec, placeInGuest } from '../../guest-agent/src/spec.ts';
import type { ContainerConfig as WireContainer } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { LinuxContainerResources } from '../../proto/generated/runtime/runtime/v1/LinuxContainerResources.ts';
import type { LinuxContainerSecurityContext } from '../../proto/generated/runtime/runtime/v1/LinuxContainerSecurityContext.ts';
import type { Mount } from '../../proto/generated/runtime/runtime/v1/Mount.ts';
import type { ContainerSettings } from '../../src/agent/contracts.ts';
import { removeTree } from '../../src/lib/files.ts';
import type { ContainerRecord } from '../../src/pod/records.ts';
import { createContainer } from '../../src/pod/create-container.ts';
import { runSandbox } from '../../src/pod/run-sandbox.ts';
import { asContainer, asPod, listed, makePodContext, messageOf } from './contract.ts';

/** The parts of config.json that rows compute with. */
interface ConfigJson {
  readonly process: {
    readonly env: readonly string[];
    readonly capabilities: { readonly bounding: readonly string[] };
  };
  readonly mounts: readonly { readonly destination: string; readonly options: readonly string[] }[];
  readonly linux: {
    readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
    readonly uidMappings?: readonly object[];
    readonly gidMappings?: readonly object[];
    readonly maskedPaths: readonly string[];
    readonly resources: { readonly devices: readonly object[] };
  };
}

/** Of config.json: a path, or what computes it. */
type Part = string | ((json: ConfigJson) => unknown);

const partOf = (json: ConfigJson, part: Part): unknown =>
  typeof part === 'function'
    ? part(json)
    : part.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], json);

interface Row {
  /** of ContainerConfig; a message stands for all its fields */
  readonly field: string;
  readonly config: WireContainer;
  readonly part: Part;
  readonly expected: unknown;
}

const row = (field: string, config: WireContainer, part: Part, expected: unknown): Row => ({
  field,
  config,
  part,
  expected,
});

const limit = (field: string, value: LinuxContainerResources, part: Part, expected: unknown): Row =>
  row(`linux.resources.${field}`, { linux: { resources: value } }, part, expected);

const secure = (field: string, value: LinuxContainerSecurityContext, part: Part, expected: unknown): Row =>
  row(`linux.security_context.${field}`, { linux: { security_context: value } }, part, expected);

/** Of a container that has this one mount, beside those of every container. */
const mounted = (field: string, mount: Mount, part: (options: readonly string[]) => unknown, expected: unknown): Row =>
  row(
    `mounts.${field}`,
    { mounts: [{ container_path: '/data', host_path: '/data', ...mount }] },
    ({ mounts }) => part(mounts.find(({ destination }) => destination === '/data')?.options ?? []),
    expected,
  );

const mapping = [{ container_id: 0, host_id: 1000, length: 10 }];
const ociMapping = [{ containerID: 0, hostID: 1000, size: 10 }];
const userns_options = { mode: 'POD', uids: mapping, gids: mapping } as const;
const device = [{ container_path: '/dev/mine', host_path: '/dev/null', permissions: 'rw' }];
const directory = mkdtempSync(join(tmpdir(), 'caisson-spec-'));
const NEIGHBOUR = 'another container of the pod';
const SECCOMP = join(directory, 'seccomp.json');
const pid = ({ linux }: ConfigJson) => linux.namespaces.find(({ type }) => type === 'pid');
const bounding = ({ process }: ConfigJson) => process.capabilities.bounding.join(' ');

const rows: readonly Row[] = [
  row('command', { command: ['/c'] }, 'process.args', ['/c']),
  row('args', { args: ['-a'] }, 'process.args', ['-a']),
  row('working_dir', { working_dir: '/w' }, 'process.cwd', '/w'),
  row('envs', { envs: [{ key: 'K', value: Buffer.from('v') }] }, ({ process }) => process.env.includes('K=v'), true),
  row('tty', { tty: true }, 'process.terminal', true),
  row(
    'mounts.container_path',
    { mounts: [{ container_path: '/there', host_path: '/data' }] },
    (json) => json.mounts.at(-1)?.destination,
    '/there',
  ),
  mounted('readonly', { readonly: true }, (options) => options.includes('ro'), true),
  mounted(
    'recursive_read_only',
    { readonly: true, recursive_read_only: true },
    (options) => options.includes('ro'),
    true,
  ),
  mounted(
    'propagation',
    { propagation: 'PROPAGATION_HOST_TO_CONTAINER' },
    (options) => options.includes('rslave'),
    true,
  ),
  mounted(
    'image',
    { host_path: '', image: { image: 'nginx' }, readonly: true },
    (options) => options.includes('noexec'),
    true,
  ),
  row('devices.container_path', { devices: device }, 'linux.devices', [
    { type: 'c', path: '/dev/mine', major: 1, minor: 3, fileMode: 0o666 },
  ]),
  row('devices.permissions', { devices: device }, ({ linux }) => linux.resources.devices?.at(-1), {
    allow: true,
    type: 'c',
    major: 1,
    minor: 3,
    access: 'rw',
  }),

  limit('cpu_period', { cpu_period: '50000' }, 'linux.resources.cpu', { period: 50_000 }),
  limit('cpu_quota', { cpu_quota: '20000' }, 'linux.resources.cpu', { quota: 20_000 }),
  limit('cpu_shares', { cpu_shares: '512' }, 'linux.resources.cpu', { shares: 512 }),
  limit('memory_limit_in_bytes', { memory_limit_in_bytes: '1048576' }, 'linux.resources.memory', { limit: 1_048_576 }),
  limit('memory_swap_limit_in_bytes', { memory_swap_limit_in_bytes: '2097152' }, 'linux.resources.memory', {
    swap: 2_097_152,
  }),
  limit(
    'hugepage_limits',
    { hugepage_limits: [{ page_size: '2MB', limit: '4194304' }] },
    'linux.resources.hugepageLimits',
    [{ pageSize: '2MB', limit: 4_194_304 }],
  ),
  limit('unified', { unified: { 'memory.high': '1000000' } }, 'linux.resources.unified', { 'memory.high': '1000000' }),
  limit('oom_score_adj', { oom_score_adj: '500' }, 'process.oomScoreAdj', 500),

  secure(
    'capabilities.add_capabilities',
    { capabilities: { add_capabilities: ['NET_ADMIN'] } },
    (json) => bounding(json).includes('CAP_NET_ADMIN'),
    true,
  ),
  secure('capabilities.drop_capabilities', { capabilities: { drop_capabilities: ['ALL'] } }, bounding, ''),
  secure(
    'capabilities.add_ambient_capabilities',
    { capabilities: { add_ambient_capabilities: ['SYSLOG'] } },
    'process.capabilities.ambient',
    ['CAP_SYSLOG'],
  ),
  secure(
    'privileged',
    { privileged: true },
    (json) => [bounding(json).includes('CAP_SYS_ADMIN'), json.linux.maskedPaths, json.linux.resources.devices],
    [true, [], [{ allow: true, access: 'rwm' }]],
  ),
  secure('namespace_options.pid', { namespace_options: { pid: 'POD' } }, pid, {
    type: 'pid',
    path: 'caisson:pid-of-pod',
  }),
  secure(
    'namespace_options.target_id',
    { namespace_options: { pid: 'TARGET', target_id: NEIGHBOUR } },
    (json) => pid(json)?.path?.startsWith('caisson:pid-of:'),
    true,
  ),
  secure(
    'namespace_options.userns_options',
    { namespace_options: { userns_options } },
    ({ linux }) => [linux.namespaces[0], linux.uidMappings, linux.gidMappings],
    [{ type: 'user' }, ociMapping, ociMapping],
  ),
  secure('run_as_user', { run_as_user: { value: '7' } }, 'process.user.uid', 7),
  secure('run_as_group', { run_as_user: { value: '7' }, run_as_group: { value: '8' } }, 'process.user.gid', 8),
  secure('run_as_username', { run_as_username: 'app' }, 'process.user.uid', 1000),
  secure('supplemental_groups', { supplemental_groups: ['9'] }, 'process.user.additionalGids', [0, 9, 50]),
  secure('supplemental_groups_policy', { supplemental_groups_policy: 'Strict' }, 'process.user.additionalGids', [0]),
  secure('readonly_rootfs', { readonly_rootfs: true }, 'root.readonly', true),
  secure('no_new_privs', { no_new_privs: true }, 'process.noNewPrivileges', true),
  secure('masked_paths', { masked_paths: ['/m'] }, 'linux.maskedPaths', ['/m']),
  secure('readonly_paths', { readonly_paths: ['/r'] }, 'linux.readonlyPaths', ['/r']),
  secure(
    'seccomp.profile_type',
    { seccomp: { profile_type: 'RuntimeDefault' } },
    'linux.seccomp.defaultAction',
    'SCMP_ACT_ERRNO',
  ),
  secure(
    'seccomp.localhost_ref',
    { seccomp: { profile_type: 'Localhost', localhost_ref: SECCOMP } },
    'linux.seccomp.defaultAction',
    'SCMP_ACT_LOG',
  ),
  secure(
    'seccomp_profile_path',
    { seccomp_profile_path: 'runtime/default' },
    'linux.seccomp.defaultAction',
    'SCMP_ACT_ERRNO',
  ),
  secure('apparmor.profile_type', { apparmor: { profile_type: 'Unconfined' } }, 'process.apparmorProfile', undefined),
  secure(
    'apparmor.localhost_ref',
    { apparmor: { profile_type: 'Localhost', localhost_ref: 'mine' } },
    'process.apparmorProfile',
    'mine',
  ),
  secure('apparmor_profile', { apparmor_profile: 'localhost/mine' }, 'process.apparmorProfile', 'mine'),
];

/** Fields that are for something else than config.json; a message stands for all its fields. */
const elsewhere: Readonly<Record<string, string>> = {
  metadata: 'the record',
  labels: 'the record',
  annotations: 'the record',
  stop_signal: 'StopContainer',
  log_path: 'the log writer',
  stdin: 'the agent, as it is no part of OCI',
  stdin_once: 'the agent, as it is no part of OCI',
  CDI_devices: 'edits of the config, by the same fields: unit/pod-cdi.test.ts',
  'image.image': 'the layers, and defaults for the rest',
  'image.user_specified_image': 'the record',
  'mounts.host_path': 'what virtiofsd serves',
  'mounts.uidMappings': 'how virtiofsd serves it',
  'mounts.gidMappings': 'how virtiofsd serves it',
  'mounts.image_sub_path': 'what the agent mounts',
  'devices.host_path': 'which node it is',
  'linux.security_context.namespace_options.network': "refused if it is NODE, else the VM's",
  'linux.security_context.namespace_options.ipc': "refused if it is NODE, else the VM's",
};

const isOf = (field: string, message: string): boolean => field === message || field.startsWith(`${message}.`);

/** All fields of a message that are no messages themselves; lists and maps count as one. */
function leaves(name: string, path: string): string[] {
  return (messageOf(name)?.field ?? []).flatMap((field) => {
    const inner = path === '' ? field.name : `${path}.${field.name}`;
    const below = messageOf(field.typeName)?.options?.mapEntry ? [] : leaves(field.typeName, inner);
    return below.length > 0 ? below : [inner];
  });
}

describe('config.json', () => {
  const rootfs = join(directory, 'rootfs');

  before(async () => {
    await mkdir(join(rootfs, 'etc'), { recursive: true });
    await writeFile(join(rootfs, 'etc/passwd'), 'root:x:0:0::/:\napp:x:1000:1000::/:\n');
    await writeFile(join(rootfs, 'etc/group'), 'staff:x:50:root\n');
    await writeFile(SECCOMP, JSON.stringify({ defaultAction: 'SCMP_ACT_LOG' }));
    await writeFile(join(directory, 'mine'), 'profile mine {\n}\n');
  });
  after(() => removeTree(directory));

  /** As it is made on the host and finished in the guest. */
  async function configJson(config: WireContainer): Promise<ConfigJson> {
    const never = new AbortController().signal;
    const asked = Promise.withResolvers<ContainerSettings>();
    const context = makePodContext(directory, (settings) => {
      asked.resolve(settings);
      return Promise.resolve({ uid: 0, gid: 0, supplementalGroups: [] });
    });
    const { userns_options: users } = config.linux?.security_context?.namespace_options ?? {};
    const linux = users ? { security_context: { namespace_options: { userns_options: users } } } : {};
    const pod = asPod({ metadata: { name: 'web', namespace: 'shop', uid: 'u' }, linux });
    const id = await runSandbox(context, () => undefined, pod, '', never);
    context.containers.insert(NEIGHBOUR, 'n', { sandboxId: id, state: 'running', resources: null } as ContainerRecord);
    await createContainer(
      context,
      id,
      asContainer({ metadata: { name: 'c' }, image: { image: 'nginx' }, ...config }),
      pod,
      never,
    );
    const { ociSpec, user } = await asked.promise;
    const json = placeInGuest(parseSpec(JSON.stringify(ociSpec)), rootfs, resolveUser(rootfs, user), new Map());
    return JSON.parse(JSON.stringify(json)) as ConfigJson;
  }

  for (const { field, config, part, expected } of rows)
    it(`has ${field}`, async () => {
      assert.deepEqual(partOf(await configJson(config), part), expected);
      assert.notDeepEqual(partOf(await configJson({}), part), expected, 'without the field it is the same');
    });

  it('has every field of the contract, but for those that are for something else', () => {
    const known = [...rows.map(({ field }) => field), ...Object.keys(elsewhere), ...listed('ContainerConfig')];
    const fields = leaves('ContainerConfig', '');
    assert.deepEqual(
      fields.filter((field) => !known.some((one) => isOf(field, one))),
      [],
    );
    assert.deepEqual(
      known.filter((one) => !fields.some((field) => isOf(field, one))),
      [],
    );
    assert.deepEqual(
      rows.filter(({ field }) => Object.keys(elsewhere).some((one) => isOf(field, one))),
      [],
    );
  });
});
