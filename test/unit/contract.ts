/** What tests of the contract's fields share: its messages, configs as they come over the wire, ports that live in memory. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { MessageTypeDefinition } from '@grpc/proto-loader';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import type { ContainerConfig as WireContainer } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { PodSandboxConfig as WirePod } from '../../proto/generated/runtime/runtime/v1/PodSandboxConfig.ts';
import type { AgentClient } from '../../src/agent/contracts.ts';
import { configSchema } from '../../src/config/schema.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { NetworkPort } from '../../src/network/contracts.ts';
import { makeContext, type PodContext } from '../../src/pod/context.ts';
import type { ContainerConfig, PodSandboxConfig } from '../../src/pod/contracts.ts';
import { Registry } from '../../src/pod/registry.ts';
import type { HostPath, StoragePort, VolumePort, VolumeShare } from '../../src/storage/contracts.ts';
import type { CgroupPort, Vm, VmPort } from '../../src/vm/contracts.ts';
import { fakeImages, image, recordingLog } from './cri-fakes.ts';
import { inMemory, useless } from './pod-fakes.ts';

const { v1 } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime;

// every message of the contract by its name, as its descriptor
interface Field {
  readonly name: string;
  readonly typeName: string;
}
interface Message {
  readonly field: readonly Field[];
  readonly options: { readonly mapEntry?: boolean } | null;
}
export const messageOf = (name: string): Message | undefined => {
  const definition = (v1 as unknown as Record<string, MessageTypeDefinition<object, object> | undefined>)[name];
  const message = definition?.type as Message | undefined;
  return message?.field ? message : undefined;
};

/** Paths that docs/limitations.md lists, as `<message>.<path>` or `<message>.<path>.{<name>,<name>}`, in its section about such fields. */
export function listed(message: string): string[] {
  const text = readFileSync(new URL('../../docs/limitations.md', import.meta.url), 'utf8');
  const [, section = ''] = text.split('## Fields of the contract that nothing reads\n');
  const [table = ''] = section.split('\n## ');
  const entries = [...table.matchAll(/`(\w+)\.([\w.]+)(?:\{([\w,]+)\})?`/g)].filter(([, of]) => of === message);
  return entries.flatMap(([, , path = '', names]) =>
    names === undefined ? [path] : names.split(',').map((name) => `${path}${name}`),
  );
}

const hostPath: HostPath = {
  fd: -1,
  path: '/data',
  kind: 'directory',
  location: { device: '8:1', path: '/data' },
  device: { major: 0, minor: 0 },
  memory: undefined,
  data: undefined,
  hasSubmounts: false,
  propagates: true,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};

const root = () => Promise.resolve({ uid: 0, gid: 0, supplementalGroups: [] });

/** Ports on which every pod and container can be made; `directory` has CDI's and AppArmor's files. */
export function makePodContext(directory: string, createContainer: AgentClient['createContainer'] = root): PodContext {
  const size = { vcpus: 1, memoryMib: 256 };
  const layers = image('').layers;
  const share = useless<VolumeShare>('share', {
    socket: '/fs.sock',
    exited: new Promise<string>(() => undefined),
    processes: [],
    bind: () => Promise.resolve(),
    follow: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  const vm = useless<Vm>('vm', {
    agentSocket: '/agent.sock',
    record: useless<Vm['record']>('vm.record', { pid: 1, uid: 2 }),
    exited: new Promise<never>(() => undefined),
    attachDisk: () => Promise.resolve(),
    attachFs: () => Promise.resolve(),
    growMemory: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  const agent = useless<AgentClient>('agent', {
    configureSandbox: () => Promise.resolve(),
    onlineProcessors: () => Promise.resolve(),
    createContainer,
    [Symbol.dispose]: () => undefined,
  });
  const unstored = (_id: string, error: unknown): never => assert.fail(String(error));
  return makeContext({
    config: configSchema.parse({
      cdi: { spec_dirs: [directory] },
      apparmor: { profile_dir: directory, profiles: 'files' },
    }),
    log: recordingLog([]),
    images: fakeImages({ find: () => image('', { layers }), hold: () => ({ [Symbol.dispose]: () => undefined }) }),
    network: useless<NetworkPort>('network', {
      prepare: () => Promise.resolve({ netnsPath: '/netns', tapName: 'tap0' }),
      attach: () =>
        Promise.resolve({
          netnsPath: '/netns',
          tapName: 'tap0',
          interface: { name: 'eth0', mac: '', mtu: 1500, addresses: [], routes: [], neighbours: [] },
          ips: ['10.0.0.2'],
          dns: { nameservers: [], search: [], options: [] },
        }),
      teardown: () => Promise.resolve(),
    }),
    storage: useless<StoragePort>('storage', {
      createScratch: () => Promise.resolve('/scratch'),
      removeScratch: () => Promise.resolve(),
    }),
    volumes: useless<VolumePort>('volumes', {
      open: (path) =>
        Promise.resolve(
          path === '/dev/null'
            ? { ...hostPath, path, kind: 'character device', device: { major: 1, minor: 3 } }
            : hostPath,
        ),
      share: () => Promise.resolve(share),
    }),
    vms: useless<VmPort>('vms', {
      sizes: { least: size, most: { vcpus: 8, memoryMib: 65_536 } },
      memoryOf: () => ({ kind: 'copied', reason: '' }),
      start: () => Promise.resolve(vm),
    }),
    cgroups: useless<CgroupPort>('cgroups', {
      place: (parent) => Promise.resolve(parent),
      make: () => Promise.resolve(),
      directories: () => [],
      enter: () => Promise.resolve(),
    }),
    connectAgent: () => agent,
    sandboxes: new Registry('sandbox', inMemory(), unstored),
    containers: new Registry('container', inMemory(), unstored),
    spares: new Registry('spare', inMemory(), unstored),
  });
}

export const asPod = (config: WirePod): PodSandboxConfig => {
  const codec = v1.RuntimeService.service.RunPodSandbox;
  const request = codec.requestDeserialize(codec.requestSerialize({ config }));
  return (request as unknown as { config: PodSandboxConfig }).config;
};
export const asContainer = (config: WireContainer): ContainerConfig => {
  const codec = v1.RuntimeService.service.CreateContainer;
  const request = codec.requestDeserialize(codec.requestSerialize({ config }));
  return (request as unknown as { config: ContainerConfig }).config;
};
