/**
 * Every field of a pod's and a container's config is read by what makes them, or docs/limitations.md says why not. The
 * real code runs on configs that tell which of their fields are looked at, above ports that live in memory. Whether a
 * field has the right effect is for other tests to say.
 */
import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { ContainerConfig as WireContainer } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { LinuxContainerSecurityContext } from '../../proto/generated/runtime/runtime/v1/LinuxContainerSecurityContext.ts';
import type { PodSandboxConfig as WirePod } from '../../proto/generated/runtime/runtime/v1/PodSandboxConfig.ts';
import { removeTree } from '../../src/lib/files.ts';
import { createContainer } from '../../src/pod/create-container.ts';
import { runSandbox } from '../../src/pod/run-sandbox.ts';
import { asContainer, asPod, listed, makePodContext, messageOf } from './contract.ts';

const never = new AbortController().signal;

/** A view of a message that notes the path of each field that is looked at, such as `linux.resources.cpu_quota`. */
function watched<T extends object>(message: T, path: string, seen: Set<string>): T {
  return new Proxy(message, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof key === 'symbol' || typeof value === 'function') return value;
      const isElement = Array.isArray(target);
      const inner = isElement ? path : `${path}${path === '' ? '' : '.'}${key}`;
      if (!isElement) seen.add(inner);
      return typeof value === 'object' && value !== null && !Buffer.isBuffer(value)
        ? watched(value, inner, seen)
        : value;
    },
  });
}

/** Paths that nobody has looked at; those below one of them are not named. */
function unseen(name: string, path: string, seen: ReadonlySet<string>): string[] {
  return (messageOf(name)?.field ?? []).flatMap((field) => {
    const inner = path === '' ? field.name : `${path}.${field.name}`;
    if (!seen.has(inner)) return [inner];
    return unseen(field.typeName, inner, seen);
  });
}

const mapping = [{ container_id: 0, host_id: 1000, length: 10 }];
const resources = {
  cpu_quota: '200000',
  cpu_shares: '512',
  memory_limit_in_bytes: '1048576',
  hugepage_limits: [{ page_size: '2MB', limit: '4194304' }],
  unified: { 'memory.high': '1000000' },
};
const pod: WirePod = {
  metadata: { name: 'web', namespace: 'shop', uid: 'u' },
  dns_config: { servers: ['10.0.0.1'] },
  port_mappings: [{ container_port: 80, host_port: 8080 }],
  linux: { resources, overhead: resources, security_context: { namespace_options: {} } },
};
const mapped = { userns_options: { mode: 'POD', uids: mapping, gids: mapping } } as const;
const security: LinuxContainerSecurityContext = {
  capabilities: { add_capabilities: ['NET_ADMIN'] },
  namespace_options: mapped,
  run_as_user: { value: '1' },
  run_as_group: { value: '1' },
  seccomp: { profile_type: 'RuntimeDefault' },
};
const container: WireContainer = {
  metadata: { name: 'web' },
  image: { image: 'nginx' },
  envs: [{ key: 'A', value: Buffer.from('b') }],
  mounts: [
    { container_path: '/a', host_path: '/data', uidMappings: mapping, gidMappings: mapping },
    { container_path: '/b', host_path: '/data', readonly: true, recursive_read_only: true },
    { container_path: '/c', image: { image: 'nginx' }, readonly: true },
  ],
  devices: [{ container_path: '/dev/null', host_path: '/dev/null', permissions: 'rw' }],
  linux: { resources, security_context: security },
};
interface Seen {
  readonly pod: Set<string>;
  readonly container: Set<string>;
}

/** Fields that count only where others are not set. */
const others: { readonly pod: WirePod; readonly container: WireContainer }[] = [
  {
    pod,
    container: {
      ...container,
      linux: { resources, security_context: { run_as_username: 'me', apparmor: { profile_type: 'RuntimeDefault' } } },
    },
  },
  {
    pod,
    container: { ...container, linux: { security_context: { namespace_options: { pid: 'POD', target_id: 'x' } } } },
  },
];

describe('the fields of the contract', () => {
  it('are all read when a pod and its containers are made, but for those that are listed with their reason', async (test) => {
    const cdiDirectory = await mkdtemp(join(tmpdir(), 'caisson-fields-'));
    test.after(() => removeTree(cdiDirectory));
    const spec = { cdiVersion: '0.6.0', kind: 'example.com/d', devices: [{ name: '1', containerEdits: {} }] };
    await writeFile(join(cdiDirectory, 'd.json'), JSON.stringify(spec));
    const make = async (podConfig: WirePod, config: WireContainer, seen: Seen): Promise<void> => {
      const context = makePodContext(cdiDirectory);
      const sandboxConfig = watched(asPod(podConfig), '', seen.pod);
      const id = await runSandbox(context, () => undefined, sandboxConfig, '', never);
      await createContainer(context, id, watched(asContainer(config), '', seen.container), sandboxConfig, never);
    };
    const seen = { pod: new Set<string>(), container: new Set<string>() };
    const mappedPod = { ...pod, linux: { ...pod.linux, security_context: { namespace_options: mapped } } };
    await make(mappedPod, container, seen);
    for (const other of others) await make(other.pod, other.container, seen);
    // with CDI devices the whole config is copied, and thereby looked at
    const copied = { pod: new Set<string>(), container: new Set<string>() };
    await make(mappedPod, { ...container, CDI_devices: [{ name: 'example.com/d=1' }] }, copied);
    for (const path of copied.container) if (path.startsWith('CDI_devices')) seen.container.add(path);
    assert.deepEqual(unseen('PodSandboxConfig', '', seen.pod).toSorted(), listed('PodSandboxConfig').toSorted());
    assert.deepEqual(unseen('ContainerConfig', '', seen.container).toSorted(), listed('ContainerConfig').toSorted());
  });
});
