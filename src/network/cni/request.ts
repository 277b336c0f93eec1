import { CaissonError } from '../../lib/errors.ts';
import { z } from 'zod';
import type { PodNetworkRequest } from '../contracts.ts';
import type { CniNetwork, CniPlugin } from './types.ts';

/** `bit`: the largest burst that plugins take, in practice no limit; what the kubelet's old CNI driver passed. */
const UNLIMITED_BURST = 2 ** 31 - 1;

/** The value of CNI_ARGS. Throws `invalid_argument` for a value that would smuggle in another key. */
export function cniArgs(request: PodNetworkRequest): string {
  const pairs = {
    K8S_POD_NAMESPACE: request.podNamespace,
    K8S_POD_NAME: request.podName,
    K8S_POD_INFRA_CONTAINER_ID: request.sandboxId,
    K8S_POD_UID: request.podUid,
  };
  const parts = Object.entries(pairs).map(([key, value]) => {
    if (/^[\w.:@-]*$/.test(value)) return `${key}=${value}`;
    throw new CaissonError(
      'invalid_argument',
      `pod ${JSON.stringify(request.podName)}: ${key} has a character that ` +
        `CNI_ARGS cannot carry: ${JSON.stringify(value.slice(0, 80))}`,
    );
  });
  return ['IgnoreUnknown=1', ...parts].join(';');
}

/** The pod's values of the CNI capabilities; a plugin gets those that it declares. */
export function capabilityArgs(request: PodNetworkRequest, podCidr: string): Record<string, unknown> {
  const ranges = podCidr.split(',').filter((subnet) => subnet !== '');
  const mappings = request.portMappings.filter((mapping) => mapping.hostPort > 0);
  return {
    ...(mappings.length > 0 && {
      portMappings: mappings.map(({ hostPort, containerPort, protocol, hostIp }) => {
        return { hostPort, containerPort, protocol, hostIP: hostIp };
      }),
    }),
    ...(request.addresses && { ips: [...request.addresses] }),
    ...(request.bandwidth && { bandwidth: bandwidth(request.bandwidth) }),
    ...(ranges.length > 0 && { ipRanges: ranges.map((subnet) => [{ subnet }]) }),
  };
}

function bandwidth({ ingressBps, egressBps }: NonNullable<PodNetworkRequest['bandwidth']>): object {
  return {
    ...(ingressBps !== undefined && { ingressRate: ingressBps, ingressBurst: UNLIMITED_BURST }),
    ...(egressBps !== undefined && { egressRate: egressBps, egressBurst: UNLIMITED_BURST }),
  };
}

const cniConvention = z.looseObject({ cni: z.looseObject({}).default({}) }).catch({ cni: {} });

/**
 * The convention by which plugins without the capability `ips` are asked for addresses, such as host-local: `args` in
 * their configuration, whose own `args` stay.
 */
export function withAddresses(network: CniNetwork, addresses: readonly string[]): CniNetwork {
  if (addresses.length === 0) return network;
  const ask = (plugin: CniPlugin): CniPlugin => {
    const args = cniConvention.parse(plugin['args'] ?? {});
    return { ...plugin, args: { ...args, cni: { ...args.cni, ips: [...addresses] } } };
  };
  return { ...network, plugins: network.plugins.map(ask) };
}
