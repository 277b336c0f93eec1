import { CaissonError } from '../lib/errors.ts';
import type { ContainerConfig } from './contracts.ts';

type Asked = NonNullable<NonNullable<NonNullable<ContainerConfig['linux']>['security_context']>['capabilities']>;

/** capabilities(7), in the order of their numbers. */
const ALL = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
];

/** What a container has when nobody says anything; the set that Docker and containerd give. */
const DEFAULT = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
];

export type CapabilitySets = Readonly<
  Record<'bounding' | 'effective' | 'permitted' | 'inheritable' | 'ambient', readonly string[]>
>;

/**
 * OCI's capability sets. CRI: drops come before adds, `ALL` means every one, names come with or without `CAP_`.
 * Throws `invalid_argument` for a name that does not exist.
 */
export function capabilitySets(asked: Asked | null, privileged: boolean): CapabilitySets {
  const ambient = names(asked?.add_ambient_capabilities);
  const set = new Set(privileged ? ALL : DEFAULT);
  if (!privileged) {
    const drop = names(asked?.drop_capabilities);
    const add = names(asked?.add_capabilities);
    if (add.includes('ALL')) ALL.forEach((name) => set.add(name));
    if (drop.includes('ALL')) set.clear();
    for (const name of drop) set.delete(name);
    for (const name of [...add, ...ambient]) if (name !== 'ALL') set.add(name);
    if (add.includes('ALL') && drop.length > 0 && !drop.includes('ALL')) drop.forEach((name) => set.delete(name));
  }
  const list = ALL.filter((name) => set.has(name)).map((name) => `CAP_${name}`);
  return {
    bounding: list,
    effective: list,
    permitted: list,
    inheritable: ambient.length > 0 ? ambient.map((name) => `CAP_${name}`) : [],
    ambient: ambient.map((name) => `CAP_${name}`),
  };
}

function names(asked: readonly string[] | undefined): string[] {
  return (asked ?? []).map((name) => {
    const plain = name.toUpperCase().replace(/^CAP_/, '');
    if (plain === 'ALL' || ALL.includes(plain)) return plain;
    throw new CaissonError(
      'invalid_argument',
      `config.linux.security_context.capabilities: ${JSON.stringify(name)} is not a capability`,
    );
  });
}
