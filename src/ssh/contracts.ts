/** The SSH gateway: OpenSSH's clients in containers. An edge, as src/streaming is. */
import type { Logger } from '../lib/logger.ts';
import type { PodService, StreamService } from '../pod/contracts.ts';

/** What the gateway calls. */
export type SshPods = StreamService & Pick<PodService, 'sandboxes' | 'containers'>;

export interface SshLimits {
  /** of the gateway; a client that is too many is cut off at once */
  readonly connections: number;
  /** open at once, of all connections together and of one */
  readonly channels: number;
  readonly channelsPerConnection: number;
  /** refused keys before a client is cut off */
  readonly authTries: number;
  /** `ms` for a client to prove who it is */
  readonly loginGraceMs: number;
}

export interface SshOptions {
  /** for `caisson ssh-proxy` */
  readonly socketPath: string;
  /** also on TCP; port 0 is a free one */
  readonly tcp?: { readonly address: string; readonly port: number };
  /** directory of the host key, made if missing */
  readonly keyDirectory: string;
  /** may be missing: then nobody gets in */
  readonly authorizedKeys: string;
  /** names of variables that clients may set; `*` stands for anything */
  readonly acceptEnv: readonly string[];
  /** `vm:pod.namespace` is the pod's VM itself */
  readonly vmAccess: boolean;
  readonly limits: SshLimits;
  readonly pods: SshPods;
  readonly log: Logger;
}

export interface SshGateway {
  /** the TCP port, if it listens on one */
  readonly port: number | undefined;
  /** `ssh-ed25519 AAAA...` */
  readonly hostKey: string;
}
