import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';

/** Where the parts of the daemon keep their things. */
export interface Places {
  readonly database: string;
  readonly images: string;
  /** survives a reboot, so that addresses are released afterwards */
  readonly network: string;
  readonly storage: string;
}

const TRAVERSABLE = 0o711;
/** vsock addresses modulo this choose the VMs' users; the next user after theirs converts layers */
const VM_USERS = 65_536;

export function placesOf({ root }: Config): Places {
  return {
    database: join(root, 'caisson.db'),
    images: join(root, 'images'),
    network: join(root, 'network'),
    storage: join(root, 'storage'),
  };
}

/** VMs' users reach their own files through root and state and see nothing else there. */
export async function makeBases({ root, state }: Config): Promise<void> {
  for (const directory of [root, state]) await mkdir(directory, { recursive: true, mode: TRAVERSABLE });
}

export function converterUid(config: Config): number {
  return config.vm.uid_base + VM_USERS + 1;
}
