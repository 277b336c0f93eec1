import { readFile, readlink } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { basename } from 'node:path';

const SYS = '/sys/class/net';
/** addr_assign_type values of a MAC that stays: the hardware's own, and one that somebody set */
const STABLE_MAC = new Set(['0', '3']);

/**
 * MACs of those gateways that are this host itself, told without a packet: the address is on the host's end of the
 * pod's veth, or on the bridge which that end is a port of. Any other gateway is left to ARP: pinning the MAC of a real
 * router would cut the pod off when the router is replaced, and a bridge's unset MAC changes as pods come and go.
 */
export async function hostGateways(
  gateways: readonly string[],
  hostInterfaces: readonly string[],
  peerIndex: number | undefined,
): Promise<{ ip: string; mac: string }[]> {
  if (peerIndex === undefined || gateways.length === 0) return [];
  const adjacent = await adjacentInterface(hostInterfaces, peerIndex);
  if (adjacent === undefined) return [];
  const addresses = networkInterfaces()[adjacent] ?? [];
  return gateways.flatMap((ip) => {
    const owner = addresses.find((address) => address.address === ip);
    return owner ? [{ ip, mac: owner.mac }] : [];
  });
}

/** The host interface that receives the pod's frames, undefined if its MAC may change. */
async function adjacentInterface(names: readonly string[], peerIndex: number): Promise<string | undefined> {
  for (const name of names) {
    if ((await readSys(name, 'ifindex')) !== String(peerIndex)) continue;
    const master = await readlink(`${SYS}/${name}/master`).then(basename, () => undefined);
    if (master === undefined) return name;
    return STABLE_MAC.has((await readSys(master, 'addr_assign_type')) ?? '') ? master : undefined;
  }
  return undefined;
}

async function readSys(name: string, attribute: string): Promise<string | undefined> {
  if (name.includes('/')) return undefined;
  return readFile(`${SYS}/${name}/${attribute}`, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}
