import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { CaissonError } from '../../src/lib/errors.ts';
import type { ConfigureSandboxRequest__Output } from '../../proto/generated/agent/caisson/agent/v1/ConfigureSandboxRequest.ts';
import type { Interface__Output } from '../../proto/generated/agent/caisson/agent/v1/Interface.ts';
import { findDisk } from './disks.ts';
import { ip, keepIpWaiting } from './ip.ts';
import { setClock } from './clock.ts';
import { mount, mountFlags, setHostname } from './native.ts';
import { paths } from './paths.ts';
import { writeSmall } from './small-files.ts';

let configured = false;
export const isConfigured = (): boolean => configured;

/** InfiniBand and secrets of AMD's and Intel's encrypted VMs. */
const NOTHING_TO_CONTROL = new Set(['rdma', 'misc']);

/** What every pod has, whatever it is: made when the agent starts, so that a clone of the template has it already. */
export function prepareRoot(): void {
  for (const path of [paths.run, `${paths.run}/containers`, paths.scratch])
    mkdirSync(path, { recursive: true, mode: 0o711 });
  for (const path of [paths.shm, paths.mqueue, paths.containerCgroups]) mkdirSync(path, { recursive: true });
  // a container that only rehearses has them, too
  for (const path of [paths.resolvConf, paths.hosts, paths.hostname]) writeSmall(path, '', 0o644);
  // for containers in a user namespace, which may not mount it themselves
  mount('mqueue', paths.mqueue, 'mqueue', mountFlags.nodev | mountFlags.nosuid | mountFlags.noexec, '');
  // containers' cgroups live below /caisson; theirs is every controller of what a VM has
  const controllers = readFileSync(`${paths.cgroups}/cgroup.controllers`, 'utf8').trim().split(' ');
  const enable = controllers
    .filter((name) => !NOTHING_TO_CONTROL.has(name))
    .map((name) => `+${name}`)
    .join(' ');
  for (const path of [paths.cgroups, paths.containerCgroups]) writeFileSync(`${path}/cgroup.subtree_control`, enable);
}

/** Leaves the interface as it was: down, without addresses, routes and neighbours. */
export async function rehearseNetwork(config: Interface__Output | null): Promise<void> {
  if (configured) throw new CaissonError('failed_precondition', 'this VM is a pod already');
  await mountScratch(); // a VM without it is not to wait for a pod
  await configureNetwork(config);
  await ip(['neigh flush dev eth0 nud permanent', 'addr flush dev eth0', 'link set dev eth0 down']);
  keepIpWaiting();
}

/** Makes the VM this pod's. What fails is named in the error; the host then throws the VM away. */
export async function configureSandbox(request: ConfigureSandboxRequest__Output): Promise<void> {
  if (request.sandbox_id === '') throw new CaissonError('invalid_argument', 'a sandbox has an id');
  if (configured) throw new CaissonError('failed_precondition', 'this VM has been configured before');
  configured = true;
  await mountScratch();
  setClock(BigInt(request.time_ns));
  if (request.entropy.length > 0) writeFileSync('/dev/urandom', request.entropy);
  if (request.hostname !== '') setHostname(request.hostname);
  mountShm(request.shm_size_bytes);
  writeSmall(paths.resolvConf, request.resolv_conf, 0o644);
  writeSmall(paths.hosts, request.hosts, 0o644);
  writeSmall(paths.hostname, `${request.hostname}\n`, 0o644);
  await configureNetwork(request.interface);
  // after the network, whose sysctls it may set
  for (const [name, value] of Object.entries(request.sysctls)) await setSysctl(name, value);
}

async function configureNetwork(config: Interface__Output | null): Promise<void> {
  const commands = ['link set lo up'];
  if (config) {
    const device = 'eth0';
    commands.push(`link set dev ${device} address ${config.mac}`, `link set dev ${device} mtu ${config.mtu} up`);
    for (const address of config.addresses)
      commands.push(`addr add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`);
    for (const { ip: address, mac } of config.neighbours)
      commands.push(`neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`);
    for (const route of config.routes) commands.push(routeCommand(route, device));
    if (config.name !== device)
      commands.push(`link set dev ${device} down`, `link set dev ${device} name ${config.name}`);
  }
  await ip(commands);
}

/** In a batch the addresses alone say which family is meant. */
function routeCommand(route: { destination: string; gateway: string; mtu: number }, device: string): string {
  const destination = route.destination === 'default' && route.gateway.includes(':') ? '::/0' : route.destination;
  const via = route.gateway === '' ? 'scope link' : `via ${route.gateway} onlink`;
  return `route replace ${destination} ${via} dev ${device}${route.mtu > 0 ? ` mtu ${route.mtu}` : ''}`;
}

/** Of the disk for what containers write: src/vm/contracts.ts. */
const SCRATCH_SERIAL = 'scratch';

let scratch: Promise<void> | undefined;

/** Once, when the agent starts: each clone of the template has it mounted. A VM without this disk is no pod's. */
export function mountScratch(): Promise<void> {
  return (scratch ??= findDisk(SCRATCH_SERIAL).then((disk) =>
    mount(disk, paths.scratch, 'ext4', 0, 'noinit_itable,barrier=0,noblock_validity'),
  ));
}

function mountShm(size: string): void {
  mount('shm', paths.shm, 'tmpfs', mountFlags.nodev | mountFlags.nosuid | mountFlags.noexec, `mode=1777,size=${size}`);
}

async function setSysctl(name: string, value: string): Promise<void> {
  if (!/^[a-z0-9_]+([./][a-zA-Z0-9_*-]+)+$/.test(name) || name.includes('..')) {
    throw new CaissonError('invalid_argument', `sysctl ${JSON.stringify(name)} is not a name`);
  }
  try {
    await writeFile(`/proc/sys/${name.replaceAll('.', '/')}`, value, { flag: 'r+' });
  } catch (error) {
    throw new CaissonError(
      'invalid_argument',
      `sysctl ${name} cannot be set to ${JSON.stringify(value)} in the guest`,
      { cause: error },
    );
  }
}
