import { open } from 'node:fs/promises';
import { inMountNamespace, type BlockNode } from '../../lib/mount-namespace.ts';
import { startedIn } from '../../lib/cgroup.ts';
import { startDetached, type DetachedProcess } from '../../lib/processes.ts';
import type { VmSpec } from '../contracts.ts';

/** Character devices that QEMU opens by name, with their numbers: Linux Documentation/admin-guide/devices.txt. */
const devices = {
  '/dev/net/tun': [10, 200],
  '/dev/kvm': [10, 232],
  '/dev/vhost-vsock': [10, 241],
} as const;

export type DevicePath = keyof typeof devices;

/**
 * In a mount namespace of its own: the device nodes it needs, made anew and owned by the VM's user, over the host's,
 * whatever their modes. Then the privileges are dropped and QEMU takes the shell's place and pid.
 */
const CAGE = `
set -e
uid=$1 dir=$2 nodes=$3; shift 3
if [ -n "$nodes" ]; then
  mount -t tmpfs -o mode=711,nosuid,noexec none "$dir"
  for node in $nodes; do
    IFS=: read -r path major minor <<EOT
$node
EOT
    made="$dir/$minor"
    mknod -m 600 "$made" c "$major" "$minor"
    chown "$uid:$uid" "$made"
    mount --bind "$made" "$path"
  done
fi
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`;

/** Makes a block device node in the cage of a running QEMU, for its user alone. */
export async function makeBlockNode(pid: number, node: BlockNode): Promise<void> {
  await using namespace = await open(`/proc/${pid}/ns/mnt`, 'r');
  await inMountNamespace(namespace.fd, [{ do: 'make block node', node }]);
}

export interface CageOptions {
  readonly spec: Pick<VmSpec, 'uid' | 'network' | 'cgroup'>;
  /** an empty directory below which the device nodes are made */
  readonly deviceDirectory: string;
  readonly devices: readonly DevicePath[];
  readonly logFile: string;
  /** descriptors of ours that become its 3, 4, ... */
  readonly inherit?: readonly number[];
}

/** Starts a program as the VM's user, in the pod's cgroup and network namespace, with the device nodes it needs. */
export function startCaged(command: string, args: readonly string[], options: CageOptions): Promise<DetachedProcess> {
  const { spec, deviceDirectory, logFile } = options;
  const nodes = options.devices.map((path) => [path, ...devices[path]].join(':')).join(' ');
  const cage = [
    'unshare',
    '--mount',
    '--propagation',
    'slave',
    'sh',
    '-c',
    CAGE,
    'caisson-cage',
    String(spec.uid),
    deviceDirectory,
    nodes,
  ];
  const [program = '', ...rest] = startedIn(spec.cgroup ?? [], [...enterNetwork(spec), ...cage, command, ...args]);
  return startDetached(program, rest, logFile, options.inherit);
}

/** In a network of its own the tap must be made first; it goes with the last process in it. */
const OWN_NETWORK = 'ip tuntap add dev "$1" mode tap user "$2"; shift 2; exec "$@"';

function enterNetwork({ network, uid }: CageOptions['spec']): string[] {
  if (!network) return [];
  if (network.netnsPath !== null) return ['nsenter', `--net=${network.netnsPath}`];
  return ['unshare', '--net', 'sh', '-c', OWN_NETWORK, 'caisson-network', network.tapName, String(uid)];
}
