/** The specs of critest that are not asked for, each with the reason that docs/conformance.md gives. */
export interface Skip {
  /** a part of the spec's whole name, as a regular expression */
  readonly pattern: string;
  readonly reason: string;
}

export const skips: readonly Skip[] = [
  {
    pattern: 'HostIpc is true',
    reason: 'the node and a VM have two kernels, so a container cannot see the System V objects of the node',
  },
  {
    pattern: 'HostNetwork is true',
    reason: "a VM cannot share the node's network namespace; needs the driver that runs pods on the host",
  },
  {
    pattern: 'portforward in host network',
    reason: "a VM cannot share the node's network namespace; needs the driver that runs pods on the host",
  },
  {
    pattern: 'rshared',
    reason: 'a mount made in the guest exists in the guest kernel only, it cannot appear on the node',
  },
  {
    pattern: 'public image with digest',
    reason: "asks for an image by its publisher's digest, which cannot be made from other programs",
  },
];

/** critest leaves these out by itself unless it is asked for measurements. */
const MEASUREMENT = /benchmark/;

export const isMeasurement = (name: string): boolean => MEASUREMENT.test(name);

/** Why a spec was left out, if it was we who did it. */
export function skipReason(name: string): string | undefined {
  return skips.find(({ pattern }) => new RegExp(pattern).test(name))?.reason;
}

/** critest skips these itself where the test host has no such security module. */
export const isHostsLack = (name: string): boolean => /AppArmor|SELinux/i.test(name);
