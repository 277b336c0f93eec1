import { isUtf8 } from 'node:buffer';
import { isIP } from 'node:net';
import { CaissonError } from '../lib/errors.ts';
import {
  RUNTIME_HANDLERS,
  type ContainerConfig,
  type CriMount,
  type NamespaceOption,
  type PodSandboxConfig,
} from './contracts.ts';
import { userNamespace } from './user-namespace.ts';

export type ValidSandboxConfig = PodSandboxConfig & { metadata: NonNullable<PodSandboxConfig['metadata']> };
export type ValidContainerConfig = ContainerConfig & {
  metadata: NonNullable<ContainerConfig['metadata']>;
  image: NonNullable<ContainerConfig['image']>;
};

const MAX_HOSTNAME_BYTES = 64;

const refuse = (field: string, why: string): never => {
  throw new CaissonError('invalid_argument', `${field}: ${why}`);
};

/** Throws `invalid_argument` naming the first field with which no pod can run. */
export function validateSandbox(
  config: PodSandboxConfig,
  runtimeHandler: string,
): asserts config is ValidSandboxConfig {
  if (!RUNTIME_HANDLERS.includes(runtimeHandler)) {
    refuse(
      'runtime_handler',
      `${JSON.stringify(runtimeHandler)} is not a handler of this runtime (it has ${RUNTIME_HANDLERS.map((name) => JSON.stringify(name)).join(', ')})`,
    );
  }
  const { metadata } = config;
  if (!metadata) return refuse('config.metadata', 'is missing');
  for (const field of ['name', 'namespace', 'uid'] as const) {
    if (metadata[field] === '') refuse(`config.metadata.${field}`, 'is empty');
    if (/[\n\0]/.test(metadata[field])) refuse(`config.metadata.${field}`, 'has a line break or a NUL');
  }
  validateHostname(config.hostname);
  const logs = config.log_directory;
  if (logs !== '' && (!logs.startsWith('/') || logs.includes('\0'))) refuse('config.log_directory', 'is not absolute');
  if (logs.split('/').includes('..')) refuse('config.log_directory', `${quoted(logs)} has a ".." in it`);
  validateDns(config);
  refuseHostNamespaces(config.linux?.security_context?.namespace_options);
  userNamespace(config.linux?.security_context?.namespace_options);
  for (const mapping of config.port_mappings) validatePort(mapping);
  refuseSamePorts(config.port_mappings);
  for (const field of ['memory_limit_in_bytes', 'cpu_shares', 'cpu_period'] as const) {
    const limit = config.linux?.resources?.[field] ?? '0';
    if (Number(limit) < 0) refuse(`config.linux.resources.${field}`, `${limit} is negative`);
  }
  const overhead = config.linux?.overhead?.memory_limit_in_bytes ?? '0';
  if (Number(overhead) < 0) refuse('config.linux.overhead.memory_limit_in_bytes', `${overhead} is negative`);
}

function validateHostname(hostname: string): void {
  if (hostname === '') return;
  if (Buffer.byteLength(hostname) > MAX_HOSTNAME_BYTES)
    refuse('config.hostname', `is longer than ${MAX_HOSTNAME_BYTES} bytes`);
  if (!/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(hostname))
    refuse('config.hostname', `${JSON.stringify(hostname)} is not a host name`);
}

function validateDns({ dns_config: dns }: PodSandboxConfig): void {
  for (const server of dns?.servers ?? []) {
    if (isIP(server) === 0) refuse('config.dns_config.servers', `${JSON.stringify(server)} is not an IP address`);
  }
  for (const field of ['searches', 'options'] as const) {
    for (const value of dns?.[field] ?? [])
      if (/[\s\0]/.test(value)) refuse(`config.dns_config.${field}`, `${JSON.stringify(value)} has white space`);
  }
}

/** A VM has its own kernel: the host's namespaces cannot be shared with it. */
function refuseHostNamespaces(options: NamespaceOption | null | undefined): void {
  for (const kind of ['network', 'ipc'] as const) {
    if (options?.[kind] === 'NODE') {
      throw new CaissonError(
        'invalid_argument',
        `config.linux.security_context.namespace_options.${kind}: NODE asks for the host's ${kind} namespace, which a pod in a VM cannot have`,
        { hint: 'such pods need the host driver, which this version does not have' },
      );
    }
  }
}

function validatePort(mapping: PodSandboxConfig['port_mappings'][number]): void {
  const { container_port: container, host_port: host, host_ip: ip } = mapping;
  if (container < 0 || container > 65535) refuse('config.port_mappings.container_port', `${container} is not a port`);
  if (host < 0 || host > 65535) refuse('config.port_mappings.host_port', `${host} is not a port`);
  if (ip !== '' && isIP(ip) === 0) refuse('config.port_mappings.host_ip', `${JSON.stringify(ip)} is not an IP address`);
}

function refuseSamePorts(mappings: PodSandboxConfig['port_mappings']): void {
  const taken = new Set<string>();
  for (const { protocol, host_ip: ip, host_port: port } of mappings) {
    const name = `${protocol} ${ip === '' ? '' : `${ip} `}${port}`;
    if (port > 0 && taken.has(name)) refuse('config.port_mappings.host_port', `${name} is asked for twice`);
    taken.add(name);
  }
}

/** As validateSandbox, for a container; what the image and the guest decide is checked by them. */
export function validateContainer(config: ContainerConfig): asserts config is ValidContainerConfig {
  if (!config.metadata) return refuse('config.metadata', 'is missing');
  if (config.metadata.name === '') refuse('config.metadata.name', 'is empty');
  if (!config.image?.image) refuse('config.image.image', 'is empty');
  if (config.log_path.split('/').includes('..'))
    refuse('config.log_path', `${JSON.stringify(config.log_path)} has a ".." in it`);
  if (config.working_dir !== '' && !config.working_dir.startsWith('/')) refuse('config.working_dir', 'is not absolute');
  for (const { key, value } of config.envs) {
    if (key === '' || /[=\0\n]/.test(key)) refuse('config.envs', `${JSON.stringify(key)} is not a variable's name`);
    if (value.includes(0)) refuse('config.envs', `the value of ${key} has a NUL`);
    if (!isUtf8(value)) refuse('config.envs', `the value of ${key} is not UTF-8`);
  }
  for (const text of [...config.command, ...config.args])
    if (text.includes('\0')) refuse('config.command', 'has a NUL');
  for (const mount of config.mounts) validateMount(mount);
  for (const device of config.devices) validateDevice(device);
  const security = config.linux?.security_context;
  refuseHostNamespaces(security?.namespace_options);
  if (security?.run_as_group && !security.run_as_user && security.run_as_username === '') {
    refuse('config.linux.security_context.run_as_group', 'needs run_as_user or run_as_username');
  }
}

function validateMount(mount: CriMount): void {
  const { container_path: to, host_path: from, image, propagation } = mount;
  if (!to.startsWith('/') || to.includes('\0')) refuse('config.mounts.container_path', `${quoted(to)} is not absolute`);
  if (to.split('/').includes('..')) refuse('config.mounts.container_path', `${quoted(to)} has a ".." in it`);
  if (to.replaceAll('/', '') === '') refuse('config.mounts.container_path', 'is the root');
  validateMappings(mount);
  if (image?.image) return validateImageMount(mount);
  if (from === '') refuse('config.mounts.host_path', `is empty, of ${quoted(to)}`);
  if (!from.startsWith('/') || from.includes('\0'))
    refuse('config.mounts.host_path', `${quoted(from)} is not absolute`);
  if (from.split('/').includes('..')) refuse('config.mounts.host_path', `${quoted(from)} has a ".." in it`);
  if (propagation === 'PROPAGATION_BIDIRECTIONAL') {
    refuse('config.mounts.propagation', `${quoted(to)}: what a pod mounts in its VM cannot appear on the node`);
  }
  if (!mount.recursive_read_only) return;
  if (!mount.readonly) refuse('config.mounts.recursive_read_only', `${quoted(to)}: needs readonly`);
  if (propagation !== 'PROPAGATION_PRIVATE')
    refuse('config.mounts.recursive_read_only', `${quoted(to)}: needs private propagation`);
}

function validateMappings({ container_path: to, uidMappings, gidMappings }: CriMount): void {
  for (const [field, ranges, other] of [
    ['uidMappings', uidMappings, gidMappings],
    ['gidMappings', gidMappings, uidMappings],
  ] as const) {
    if (ranges.length === 0 && other.length > 0) refuse(`config.mounts.${field}`, `${quoted(to)}: is missing`);
    if (ranges.length > MAX_MAPPINGS)
      refuse(`config.mounts.${field}`, `${quoted(to)}: has over ${MAX_MAPPINGS} entries`);
    for (const { host_id: host, container_id: container, length } of ranges) {
      if (length === 0 || Math.max(host, container) + length > IDS)
        refuse(`config.mounts.${field}`, `${quoted(to)}: ${container} ${host} ${length} is not a range of ids`);
    }
  }
}

/** The kernel's. */
const MAX_MAPPINGS = 340;
const IDS = 2 ** 32;

function validateImageMount({ container_path: to, host_path: from, image_sub_path: sub, readonly }: CriMount): void {
  if (from !== '') refuse('config.mounts.host_path', `${quoted(to)}: an image volume has none`);
  if (!readonly) refuse('config.mounts.readonly', `${quoted(to)}: an image volume is read-only`);
  if (sub.startsWith('/') || sub.includes('\0') || sub.split('/').includes('..'))
    refuse('config.mounts.image_sub_path', `${quoted(sub)} is not a path within the image`);
}

function validateDevice({
  container_path: to,
  host_path: from,
  permissions,
}: ContainerConfig['devices'][number]): void {
  for (const [field, path] of [
    ['container_path', to],
    ['host_path', from],
  ] as const) {
    if (!path.startsWith('/') || path.includes('\0'))
      refuse(`config.devices.${field}`, `${quoted(path)} is not absolute`);
    if (path.split('/').includes('..')) refuse(`config.devices.${field}`, `${quoted(path)} has a ".." in it`);
  }
  if (!/^[rwm]{1,3}$/.test(permissions))
    refuse('config.devices.permissions', `${quoted(permissions)} is not of r, w, m`);
}

const quoted = (path: string): string => JSON.stringify(path);
