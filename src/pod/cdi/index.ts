import { readdir } from 'node:fs/promises';
import { parse } from 'yaml';
import { CaissonError, describeError } from '../../lib/errors.ts';
import { ignoreMissing, readSmallFile } from '../../lib/files.ts';
import type { ContainerConfig, CriMount } from '../contracts.ts';
import { parseSpec, type CdiSpec, type ContainerEdits } from './spec.ts';

const FIELD = 'config.CDI_devices';
const MAX_BYTES = 1024 * 1024;

/**
 * The config with what its CDI devices add: variables, devices, mounts and groups, as if the caller had asked for them.
 * `directories` hold the specifications; a later one takes precedence. Throws `invalid_argument` for a device that no
 * specification has, `failed_precondition` for one that cannot be had in a VM.
 */
export async function withCdiDevices(
  config: ContainerConfig,
  directories: readonly string[],
): Promise<ContainerConfig> {
  if (config.CDI_devices.length === 0) return config;
  const specs = await readSpecs(directories);
  const edits = config.CDI_devices.flatMap(({ name }) => editsOf(name, specs));
  // what belongs to a whole specification is added once, however many of its devices are asked for
  return [...new Set(edits)].reduce(apply, config);
}

interface KnownSpec extends CdiSpec {
  readonly file: string;
}

/** By file, those with precedence first. */
async function readSpecs(directories: readonly string[]): Promise<KnownSpec[]> {
  const specs: KnownSpec[] = [];
  for (const directory of directories.toReversed()) {
    const names = (await readdir(directory).catch(ignoreMissing([]))).toSorted((a, b) => a.localeCompare(b, 'en'));
    for (const name of names.filter((file) => /\.(json|ya?ml)$/.test(file))) {
      const file = `${directory}/${name}`;
      specs.push({ file, ...parseSpec(file, await readYaml(file)) });
    }
  }
  return specs;
}

/** JSON is YAML, too. */
async function readYaml(file: string): Promise<unknown> {
  try {
    return parse(await readSmallFile(file, MAX_BYTES));
  } catch (cause) {
    throw new CaissonError('failed_precondition', `${file} cannot be read: ${describeError(cause)}`, { cause });
  }
}

function editsOf(name: string, specs: readonly KnownSpec[]): ContainerEdits[] {
  for (const { file, kind, devices, containerEdits } of specs) {
    const device = devices.find((one) => `${kind}=${one.name}` === name);
    if (!device) continue;
    const both = [containerEdits, device.containerEdits];
    if (both.some(({ hooks }) => hooks.length > 0)) {
      throw new CaissonError(
        'failed_precondition',
        `${FIELD}: ${name} of ${file} has hooks, which run on the node, where the container is not`,
      );
    }
    return both;
  }
  throw new CaissonError('invalid_argument', `${FIELD}: ${JSON.stringify(name)} is in no CDI specification`, {
    hint: 'see cdi.spec_dirs',
  });
}

function apply(config: ContainerConfig, edits: ContainerEdits): ContainerConfig {
  const envs = edits.env.map((entry) => {
    const at = entry.indexOf('=');
    return { key: entry.slice(0, at), value: Buffer.from(entry.slice(at + 1)) };
  });
  const devices = edits.deviceNodes.map(({ path, hostPath, permissions }) => ({
    container_path: path,
    host_path: hostPath || path,
    permissions,
  }));
  return {
    ...config,
    envs: [...config.envs, ...envs],
    devices: [...config.devices, ...devices],
    mounts: [...config.mounts, ...edits.mounts.map(criMount)],
    linux: withGroups(config.linux, edits.additionalGids),
  };
}

function criMount({ hostPath, containerPath, options }: ContainerEdits['mounts'][number]): CriMount {
  return {
    container_path: containerPath,
    host_path: hostPath,
    readonly: options.includes('ro'),
    selinux_relabel: false,
    propagation: 'PROPAGATION_PRIVATE',
    uidMappings: [],
    gidMappings: [],
    recursive_read_only: false,
    image: null,
    image_sub_path: '',
  };
}

/** Without a security context there is nothing that a group could be added to but the defaults: such a container is rare. */
function withGroups(linux: ContainerConfig['linux'], groups: readonly number[]): ContainerConfig['linux'] {
  if (groups.length === 0) return linux;
  const security = linux?.security_context;
  if (!linux || !security)
    throw new CaissonError('failed_precondition', `${FIELD}: groups need config.linux.security_context`);
  const all = [...security.supplemental_groups, ...groups.map(String)];
  return { ...linux, security_context: { ...security, supplemental_groups: all } };
}
