import type { SeccompProfile, SeccompRule } from './profile.ts';
import { ALLOWED, ALLOWED_WITH, REFUSED, words } from './system-calls.ts';

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;
const AF_VSOCK = 40;
/** the highest address family that Linux has */
const AF_MAX = 45;
const LOW_HALF = 0xffff_ffff;
/** clone(2)'s flags for new namespaces: mount, cgroup, uts, ipc, user, pid, net */
const NEW_NAMESPACES = 0x7e02_0000;
/** personality(2)'s harmless values: Linux, 32-bit Linux, both with uname 2.6, and the question */
const PERSONALITIES = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

const allow = (names: readonly string[], args?: SeccompRule['args']): SeccompRule => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  ...(args && { args }),
});

const refuse = (names: readonly string[], errnoRet: number, args?: SeccompRule['args']): SeccompRule => ({
  names,
  action: 'SCMP_ACT_ERRNO',
  errnoRet,
  ...(args && { args }),
});

/**
 * RuntimeDefault: an allow list. System calls that it does not know fail as on a kernel without them, so that programs
 * fall back to older ones. AF_VSOCK is refused because the guest's agent is on it, and so is socketcall, by which 32-bit
 * programs of old reach every family: its arguments cannot be looked at.
 */
export function runtimeDefault(capabilities: readonly string[]): SeccompProfile {
  const granted = new Set(
    Object.entries(ALLOWED_WITH).flatMap(([capability, names]) =>
      capabilities.includes(capability) ? words(names) : [],
    ),
  );
  const known = new Set(Object.values(ALLOWED_WITH).flatMap(words));
  // programs are to fall back from clone3, whose flags cannot be looked at, to clone
  for (const name of ['clone', 'clone3']) known.delete(name);
  const missing = [...known].filter((name) => !granted.has(name));
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: ENOSYS,
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: [
      // before any rule for socket, for which libseccomp would allow a part of it
      refuse(['socketcall'], EPERM),
      allow([...Object.values(ALLOWED).flatMap(words), ...granted]),
      refuse([...missing, ...words(REFUSED)], EPERM),
      ...(granted.has('clone') ? [] : [cloneWithoutNamespaces]),
      ...families.filter((family) => family !== AF_VSOCK).map((family) => allow(['socket'], familyIs(family))),
      refuse(['socket'], EAFNOSUPPORT, familyIs(AF_VSOCK)),
      ...PERSONALITIES.map((value) => allow(['personality'], [{ index: 0, value, op: 'SCMP_CMP_EQ' }])),
    ],
  };
}

const families = Array.from({ length: AF_MAX + 1 }, (_, family) => family);

/** The kernel looks at the low half of the register only: with anything in the other, a plain comparison would fail. */
const familyIs = (family: number) => [{ index: 0, value: LOW_HALF, valueTwo: family, op: 'SCMP_CMP_MASKED_EQ' }];

const cloneWithoutNamespaces = allow(
  ['clone'],
  [{ index: 0, value: NEW_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
);
