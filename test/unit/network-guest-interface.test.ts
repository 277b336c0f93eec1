import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { podAddresses, resultDns } from '../../src/network/cni/result.ts';
import { resultSchema } from '../../src/network/cni/types.ts';
import { guestAddresses, guestRoutes } from '../../src/network/guest-interface.ts';
import type { LinkRoute, PodLink } from '../../src/network/link.ts';

const route = (dst: string, fields: Partial<LinkRoute> = {}): LinkRoute => {
  return { dst, type: 'unicast', protocol: 'boot', table: 'main', metrics: [], ...fields };
};

function link(addresses: readonly string[], routes: readonly LinkRoute[]): PodLink {
  const parsed = addresses.map((cidr) => {
    const [ip = '', length] = cidr.split('/');
    return { ip, prefixLength: Number(length) };
  });
  return { mac: '02:00:00:00:00:01', mtu: 1500, peerIndex: 7, addresses: parsed, routes, permanentNeighbours: [] };
}

describe('addresses of the guest', () => {
  it("come in the plugins' order, with the gateways of the result", () => {
    const pod = link(
      ['10.1.0.5/24', 'fd01::5/64'],
      [route('10.1.0.0/24', { protocol: 'kernel' }), route('fd01::/64', { protocol: 'kernel' })],
    );
    const fromResult = [
      { ip: 'fd01::5', prefixLength: 64, gateway: 'fd01::1' },
      { ip: '10.1.0.5', prefixLength: 24, gateway: '10.1.0.1' },
    ];
    assert.deepEqual(guestAddresses(pod, fromResult), [
      { cidr: 'fd01::5/64', gateway: 'fd01::1' },
      { cidr: '10.1.0.5/24', gateway: '10.1.0.1' },
    ]);
  });

  it('are host addresses where the plugin removed the route to their prefix, as ptp does', () => {
    const pod = link(['10.1.0.5/24', 'fd01::5/64'], [route('10.1.0.0/24', { gateway: '10.1.0.1' })]);
    assert.deepEqual(guestAddresses(pod, []), [{ cidr: '10.1.0.5/32' }, { cidr: 'fd01::5/128' }]);
  });
});

describe('routes of the guest', () => {
  it('are those of the plugins, gateways reachable in order', () => {
    const pod = link(
      ['10.1.0.5/24'],
      [
        route('default', { gateway: '10.1.0.1' }),
        route('10.1.0.0/24', { protocol: 'kernel' }),
        route('10.1.0.1'),
        route('10.96.0.0/12', { gateway: '10.1.0.1', metrics: [{ mtu: 1400 }] }),
        route('default', { gateway: 'fd01::1' }),
        route('fe80::/64', { protocol: 'kernel' }),
        route('10.9.0.0/16', { via: { host: 'fd01::1' } }),
      ],
    );
    assert.deepEqual(guestRoutes(pod), [
      { destination: '10.1.0.1/32' },
      { destination: '0.0.0.0/0', gateway: '10.1.0.1' },
      { destination: '10.96.0.0/12', gateway: '10.1.0.1', mtu: 1400 },
      { destination: '::/0', gateway: 'fd01::1' },
      { destination: '10.9.0.0/16', gateway: 'fd01::1' },
    ]);
  });
});

describe('a CNI result', () => {
  it('gives the pod the addresses of its own interface', () => {
    const result = resultSchema.parse({
      interfaces: [
        { name: 'br0' },
        { name: 'eth0', sandbox: '/run/netns/a' },
        { name: 'net1', sandbox: '/run/netns/a' },
      ],
      ips: [
        { address: '10.1.0.1/24', interface: 0 },
        { address: '10.1.0.5/24', interface: 1, gateway: '10.1.0.1' },
        { address: '10.2.0.5/24', interface: 2 },
        { version: '4', address: '10.3.0.5/24' },
      ],
    });
    assert.deepEqual(podAddresses(result, 'eth0'), [
      { ip: '10.1.0.5', prefixLength: 24, gateway: '10.1.0.1' },
      { ip: '10.3.0.5', prefixLength: 24 },
    ]);
  });

  it('has its domain searched first', () => {
    const result = resultSchema.parse({ dns: { nameservers: ['10.96.0.10'], domain: 'a.b', search: ['c.d'] } });
    assert.deepEqual(resultDns(result), { nameservers: ['10.96.0.10'], search: ['a.b', 'c.d'], options: [] });
  });
});
