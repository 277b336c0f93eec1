import { CaissonError } from '../lib/errors.ts';
import type { SpecDevice } from './devices.ts';
import type { LinuxContainerResources } from './contracts.ts';

/** With it crun takes a failure to set up the rules for one, instead of going on without them. */
const NO_OTHER_DEVICE = { allow: false, access: 'rwm' };

/**
 * OCI's resources; crun turns the v1 numbers into cgroup v2's. Without rules for devices there are those that every container has,
 * and with rules they are there, too. Throws `invalid_argument` for negative limits.
 */
export function ociResources(
  asked: LinuxContainerResources | null,
  privileged: boolean,
  extra: readonly SpecDevice[],
): object {
  const rules = extra.map(({ major, minor, permissions }) => ({
    allow: true,
    type: 'c',
    major,
    minor,
    access: permissions,
  }));
  const devices = privileged ? [{ allow: true, access: 'rwm' }] : [NO_OTHER_DEVICE, ...rules];
  return { ...((privileged || rules.length > 0) && { devices }), ...(asked && ociLimits(asked)) };
}

/** Without what is not limited. Throws as above, and for what no kernel takes. */
export function ociLimits(asked: LinuxContainerResources): object {
  checkLimits(asked);
  const cpu = {
    ...positive('cpu_shares', asked.cpu_shares, 'shares'),
    ...positive('cpu_quota', asked.cpu_quota, 'quota', true),
    ...positive('cpu_period', asked.cpu_period, 'period'),
    // no cpuset: its numbers are those of the node's processors, not of the VM's
  };
  const memory = {
    ...positive('memory_limit_in_bytes', asked.memory_limit_in_bytes, 'limit'),
    ...positive('memory_swap_limit_in_bytes', asked.memory_swap_limit_in_bytes, 'swap', true),
  };
  const hugepageLimits = asked.hugepage_limits
    // a kubelet says 0 for each size of the node's: pages of 2 MiB every guest has, of others it may have none to refuse
    .filter(({ page_size, limit }) => limit !== '0' || page_size === '2MB')
    .map(({ page_size, limit }) => ({
      pageSize: page_size,
      limit: Number(limit),
    }));
  return {
    ...(Object.keys(cpu).length > 0 && { cpu }),
    ...(Object.keys(memory).length > 0 && { memory }),
    ...(hugepageLimits.length > 0 && { hugepageLimits }),
    ...(Object.keys(asked.unified).length > 0 && { unified: asked.unified }),
  };
}

const FIELD = 'config.linux.resources';

/** Bounds of the kernel, in its own units. */
const BOUNDS = { cpu_shares: [2, 262_144], cpu_period: [1000, 1_000_000], cpu_quota: [1000, 2 ** 44] } as const;

function checkLimits(asked: LinuxContainerResources): void {
  const refuse = (field: string, why: string): never => {
    throw new CaissonError('invalid_argument', `${FIELD}.${field}: ${why}`);
  };
  for (const [field, [least, most]] of Object.entries(BOUNDS)) {
    const value = Number(asked[field as keyof typeof BOUNDS]);
    if (value > 0 && (value < least || value > most)) refuse(field, `${value} is not between ${least} and ${most}`);
  }
  const [memory, withSwap] = [Number(asked.memory_limit_in_bytes), Number(asked.memory_swap_limit_in_bytes)];
  if (withSwap > 0 && withSwap < memory)
    refuse('memory_swap_limit_in_bytes', `${withSwap} is less than the memory limit, which is part of it`);
  if (Math.abs(Number(asked.oom_score_adj)) > 1000)
    refuse('oom_score_adj', `${asked.oom_score_adj} is not between -1000 and 1000`);
  for (const { page_size } of asked.hugepage_limits)
    if (!/^[1-9]\d{0,3}[KMG]B$/.test(page_size)) refuse('hugepage_limits', `${quoted(page_size)} is not a page size`);
  for (const [name, value] of Object.entries(asked.unified)) {
    // the name becomes that of a file
    if (!/^[a-z0-9_]+(\.[A-Za-z0-9_]+)+$/.test(name)) refuse('unified', `${quoted(name)} is not a file of a cgroup`);
    if (value.includes('\0')) refuse('unified', `the value of ${name} has a NUL`);
  }
}

const quoted = (text: string): string => JSON.stringify(text);

/** `{name: value}` for a limit that is set, nothing for 0; -1 means unlimited where `unlimited` allows it. */
function positive(field: string, text: string, name: string, unlimited = false): Record<string, number> {
  const value = Number(text);
  if (value === 0 || (unlimited && value === -1)) return {};
  if (value < 0) throw new CaissonError('invalid_argument', `${FIELD}.${field}: ${text} is negative`);
  return { [name]: value };
}
