import type { CriConnection } from '../../src/lib/grpc/cri-client.ts';

export type PeerName = 'caisson' | 'containerd';
export const PEERS: readonly PeerName[] = ['caisson', 'containerd'];

/** A CRI runtime under test, driven by the same client and the same requests as the other one. */
export interface Peer {
  readonly name: PeerName;
  readonly cri: CriConnection;
  /** pods' logs go below it */
  readonly dir: string;
  readonly cgroupParent: string;
  /** OpenSSH's configuration with which its containers are entered, where it has such a door */
  readonly sshConfig?: string;
  /** returns when it does nothing in the background that would disturb what is timed next */
  readonly settled: (signal: AbortSignal) => Promise<void>;
  /** every process that is there because of its pods */
  readonly podProcesses: () => Promise<readonly number[]>;
}
