import { stat } from 'node:fs/promises';
import { findDisk } from './disks.ts';
import type { OciSpec } from './spec.ts';

export interface BlockDeviceRequest {
  /** in the container */
  readonly path: string;
  readonly serial: string;
  readonly permissions: string;
}

interface LinuxPart {
  readonly devices?: readonly object[];
  readonly resources?: { readonly devices?: readonly object[] };
}

/** With it crun takes a failure to set up the rules for one, instead of going on without them. */
const NO_OTHER_DEVICE = { allow: false, access: 'rwm' };

/** Adds disks of the VM as device nodes; waits for those that are being plugged in. */
export async function withBlockDevices(spec: OciSpec, requests: readonly BlockDeviceRequest[]): Promise<OciSpec> {
  if (requests.length === 0) return spec;
  const found = await Promise.all(
    requests.map(async ({ path, serial, permissions }) => {
      const { rdev } = await stat(await findDisk(serial));
      return { path, permissions, major: Math.floor(rdev / 256) % 4096, minor: minorOf(rdev) };
    }),
  );
  const linux = (spec['linux'] ?? {}) as LinuxPart;
  const devices = found.map(({ path, major, minor }) => ({ type: 'b', path, major, minor, fileMode: 0o660 }));
  const rules = found.map(({ major, minor, permissions: access }) => ({
    allow: true,
    type: 'b',
    major,
    minor,
    access,
  }));
  return {
    ...spec,
    linux: {
      ...linux,
      devices: [...(linux.devices ?? []), ...devices],
      resources: { ...linux.resources, devices: [...(linux.resources?.devices ?? [NO_OTHER_DEVICE]), ...rules] },
    },
  };
}

/** As glibc's gnu_dev_minor. */
const minorOf = (device: number): number => (device % 256) + Math.floor(device / 2 ** 20) * 256;
