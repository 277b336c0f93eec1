/** The network port: a netns with a tap for each pod, joined to whatever the node's CNI plugins make. */

export interface PortMapping {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly containerPort: number;
  readonly hostPort: number;
  readonly hostIp: string;
}

export interface PodNetworkRequest {
  readonly sandboxId: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
  readonly portMappings: readonly PortMapping[];
  /** `bit/s`, from the pod's kubernetes.io/ingress-bandwidth and egress-bandwidth annotations */
  readonly bandwidth?: { readonly ingressBps?: number; readonly egressBps?: number };
  /** owner of the tap device, the uid QEMU runs as */
  readonly tapUid: number;
  /** in CIDR notation: asked of the address plugin, which may give others or fail; any if left out */
  readonly addresses?: readonly string[];
}

export interface AddressConfig {
  /** `10.88.0.5/16` or `fd00::5/64` */
  readonly cidr: string;
  readonly gateway?: string;
}

export interface RouteConfig {
  readonly destination: string;
  readonly gateway?: string;
  readonly mtu?: number;
}

/** What the guest needs to take the CNI interface over. */
export interface GuestInterface {
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly AddressConfig[];
  readonly routes: readonly RouteConfig[];
  /** permanent neighbour entries, the gateways among them, so that the guest's first packet needs no ARP */
  readonly neighbours: readonly { readonly ip: string; readonly mac: string }[];
}

export interface CniDns {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Persisted with the sandbox: enough to undo the network after a restart of the daemon. */
export interface PodNetwork {
  /** `/run/netns/caisson-<short id>` */
  readonly netnsPath: string;
  readonly tapName: string;
  readonly interface: GuestInterface;
  /** the pod's addresses without prefix, primary first */
  readonly ips: readonly string[];
  readonly dns: CniDns;
}

export type NetworkStatus =
  | { readonly ready: true }
  | { readonly ready: false; readonly reason: string; readonly message: string };

/** A netns whose tap exists and whose CNI plugins have not run yet: QEMU can start in it at once. */
export interface PreparedNetns {
  readonly netnsPath: string;
  readonly tapName: string;
}

/** Totals since the interface was made. */
export interface InterfaceCounters {
  readonly name: string;
  readonly received: TrafficCounters;
  readonly sent: TrafficCounters;
}

export interface TrafficCounters {
  readonly bytes: number;
  readonly packets: number;
  readonly errors: number;
  readonly dropped: number;
}

export interface NetworkPort {
  /** From memory: the state of the CNI configuration and of its plugins' last STATUS. Never blocks. */
  status(): NetworkStatus;
  /** Makes netns and tap. Undone by `teardown`. */
  prepare(request: Pick<PodNetworkRequest, 'sandboxId' | 'tapUid'>, signal: AbortSignal): Promise<PreparedNetns>;
  /** CNI ADD in the prepared netns, then joins tap and CNI interface by tc. Undone by `teardown`. */
  attach(request: PodNetworkRequest, netns: PreparedNetns, signal: AbortSignal): Promise<PodNetwork>;
  /** Whether the pod's netns, tap and CNI interface are there, as `attach` left them. */
  attached(sandboxId: string): Promise<boolean>;
  /** CNI CHECK with the cached result; throws `failed_precondition` with the plugin's words. */
  check(sandboxId: string, signal: AbortSignal): Promise<void>;
  /** Of the pod's CNI interface, by a process in its netns; undefined when that is gone. */
  counters(pid: number): Promise<InterfaceCounters | undefined>;
  /** CNI DEL (with the cached result, if any), then removes tap and netns. Idempotent; works after a restart. */
  teardown(sandboxId: string): Promise<void>;
}
