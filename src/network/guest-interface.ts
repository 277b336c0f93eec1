import { BlockList, isIPv6 } from 'node:net';
import type { AddressConfig, RouteConfig } from './contracts.ts';
import type { ResultAddress } from './cni/result.ts';
import type { LinkRoute, PodLink } from './link.ts';

type LinkAddress = PodLink['addresses'][number];

/**
 * The interface's addresses in the plugins' order, with the gateways that only the CNI result knows. An address without
 * the kernel's own route to its prefix (ptp, Calico) becomes a /32 or /128: the guest's kernel would make that route.
 */
export function guestAddresses(link: PodLink, fromResult: readonly ResultAddress[]): AddressConfig[] {
  const rank = new Map(fromResult.map((address, index) => [address.ip, index]));
  const order = ({ ip }: LinkAddress): number => rank.get(ip) ?? fromResult.length;
  return link.addresses
    .toSorted((a, b) => order(a) - order(b))
    .map((address) => {
      const gateway = fromResult.find((entry) => entry.ip === address.ip)?.gateway;
      const prefix = hasConnectedRoute(link.routes, address) ? address.prefixLength : fullLength(address.ip);
      return { cidr: `${address.ip}/${prefix}`, ...(gateway !== undefined && { gateway }) };
    });
}

/** Routes that the guest must set itself, in an order in which each gateway is reachable once its turn comes. */
export function guestRoutes(link: PodLink): RouteConfig[] {
  const wanted = link.routes.filter((route) => route.protocol !== 'kernel' && route.protocol !== 'ra');
  const routes = wanted.map((route) => {
    const gateway = route.gateway ?? route.via?.host;
    const mtu = route.metrics.find((metric) => metric.mtu !== undefined)?.mtu;
    return {
      destination: destinationCidr(route, link),
      ...(gateway !== undefined && { gateway }),
      ...(mtu !== undefined && { mtu }),
    };
  });
  return [
    ...routes.filter((route) => route.gateway === undefined),
    ...routes.filter((route) => route.gateway !== undefined),
  ];
}

function destinationCidr(route: LinkRoute, link: PodLink): string {
  if (route.dst.includes('/')) return route.dst;
  if (route.dst !== 'default') return `${route.dst}/${fullLength(route.dst)}`;
  // `ip` shows no family: a default route without a gateway has that of the pod's first address
  const witness = route.gateway ?? route.via?.host ?? link.addresses[0]?.ip ?? '';
  return isIPv6(witness) ? '::/0' : '0.0.0.0/0';
}

function hasConnectedRoute(routes: readonly LinkRoute[], { ip, prefixLength }: LinkAddress): boolean {
  if (prefixLength === fullLength(ip)) return true;
  return routes.some((route) => {
    const [network = '', length = String(fullLength(network))] = route.dst.split('/');
    if (route.protocol !== 'kernel' || Number(length) !== prefixLength) return false;
    if (isIPv6(network) !== isIPv6(ip)) return false;
    const subnet = new BlockList();
    subnet.addSubnet(network, prefixLength, family(network));
    return subnet.check(ip, family(ip));
  });
}

function fullLength(ip: string): number {
  return isIPv6(ip) ? 128 : 32;
}

function family(ip: string): 'ipv4' | 'ipv6' {
  return isIPv6(ip) ? 'ipv6' : 'ipv4';
}
