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
  readonly ssh: SshPlaces;
}

export interface SshPlaces {
  /** of the host key */
  readonly keys: string;
  readonly authorizedKeys: string;
  readonly socket: string;
}

const TRAVERSABLE = 0o711;
/** vsock addresses modulo this choose the VMs' users; the next user after theirs converts layers */
const VM_USERS = 65_536;

export function placesOf({ root, state, ssh }: Config): Places {
  return {
    database: join(root, 'caisson.db'),
    images: join(root, 'images'),
    network: join(root, 'network'),
    storage: join(root, 'storage'),
    ssh: {
      keys: join(root, 'ssh'),
      authorizedKeys: ssh.authorized_keys || join(root, 'ssh/authorized_keys'),
      socket: ssh.socket || join(state, 'ssh.sock'),
    },
  };
}

/** VMs' users reach their own files through root and state and see nothing else there. */
export async function makeBases({ root, state }: Config): Promise<void> {
  for (const directory of [root, state]) await mkdir(directory, { recursive: true, mode: TRAVERSABLE });
}

export function converterUid(config: Config): number {
  return config.vm.uid_base + VM_USERS + 1;
}
