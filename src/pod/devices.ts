import { CaissonError } from '../lib/errors.ts';
import type { HostPath } from '../storage/contracts.ts';
import type { DiskSpec } from '../vm/contracts.ts';
import type { PodContext } from './context.ts';
import type { ContainerConfig } from './contracts.ts';

/** A character device of the container's OCI spec. */
export interface SpecDevice {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  /** of `r`, `w` and `m` */
  readonly permissions: string;
}

export interface BlockDevice {
  readonly path: string;
  readonly permissions: string;
  readonly disk: DiskSpec;
}

export interface DevicePlan {
  readonly characters: readonly SpecDevice[];
  readonly blocks: readonly BlockDevice[];
}

/** They are no hardware, so the guest's kernel has them, too: Linux Documentation/admin-guide/devices.txt. */
const IN_EVERY_KERNEL: Readonly<Record<string, string>> = {
  '1:3': 'null',
  '1:5': 'zero',
  '1:7': 'full',
  '1:8': 'random',
  '1:9': 'urandom',
  '1:11': 'kmsg',
  '5:0': 'tty',
  '10:200': 'net/tun',
  '10:229': 'fuse',
};

/** What a container's devices come to. Throws `invalid_argument` for one that a VM cannot have. */
export async function planDevices(context: PodContext, config: ContainerConfig): Promise<DevicePlan> {
  const characters: SpecDevice[] = [];
  const blocks: BlockDevice[] = [];
  for (const { container_path: path, host_path: hostPath, permissions } of config.devices) {
    await using node = await context.volumes.open(hostPath);
    const { major, minor } = node.device;
    if (node.kind === 'block device') {
      blocks.push({ path, permissions, disk: await diskOf(context, node, permissions) });
    } else if (node.kind === 'character device' && `${major}:${minor}` in IN_EVERY_KERNEL) {
      characters.push({ path, major, minor, permissions });
    } else {
      const what = node.kind === 'character device' ? `device ${major}:${minor} of the node` : `a ${node.kind}`;
      const known = Object.values(IN_EVERY_KERNEL).join(', ');
      throw new CaissonError(
        'invalid_argument',
        `config.devices.host_path: ${node.path} is ${what}, which a VM does not have`,
        { hint: `a container can have block devices and ${known}` },
      );
    }
  }
  return { characters, blocks };
}

async function diskOf(context: PodContext, node: HostPath, permissions: string): Promise<DiskSpec> {
  const { major, minor } = node.device;
  const used = await context.volumes.useOf(node);
  if (used !== undefined) {
    throw new CaissonError(
      'failed_precondition',
      `config.devices.host_path: ${node.path} holds what the node ${used}; two kernels would destroy it`,
    );
  }
  const readOnly = !permissions.includes('w');
  // one for reading and one for writing, if that is what two containers ask for
  const serial = `blk-${major}-${minor}${readOnly ? '-ro' : ''}`;
  return { serial, path: node.path, format: 'raw', readOnly, device: node.device };
}
