/** `struct sockaddr_vm` of Linux, for host and guest. */

export const AF_VSOCK = 40;
export const ADDRESS_BYTES = 16;
export const CID_ANY = 0xffff_ffff;
/** the host, as guests see it */
export const CID_HOST = 2;

/** Only a process with CAP_NET_BIND_SERVICE may bind up to this port: for who reaches the agent, that proves root. */
export const LAST_PRIVILEGED_PORT = 1023;

export interface VsockAddress {
  readonly cid: number;
  readonly port: number;
}

export function encodeAddress({ cid, port }: VsockAddress): Buffer {
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_VSOCK, 0);
  address.writeUInt32LE(port, 4);
  address.writeUInt32LE(cid, 8);
  return address;
}

export function decodeAddress(address: Buffer): VsockAddress {
  return { port: address.readUInt32LE(4), cid: address.readUInt32LE(8) };
}
