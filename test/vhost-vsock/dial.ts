/**
 * `dial.ts <cid> <own port, 0 for any>`: dials the agent's port as the user it runs as and prints what came first: a number of
 * bytes, 0 when the guest hung up, or the error's number below 0.
 */
import { readSync } from 'node:fs';
import koffi from 'koffi';
import { ADDRESS_BYTES, AF_VSOCK, CID_ANY, encodeAddress } from '../../src/lib/vsock-address.ts';

const AGENT_PORT = 1024;
const SOCK_STREAM = 1;

const libc = koffi.load('libc.so.6');
const socket = libc.func('int socket(int domain, int type, int protocol)');
const call = (name: string, fd: number, address: Buffer): number =>
  Number(libc.func(`int ${name}(int fd, const uint8_t *address, uint32_t length)`)(fd, address, ADDRESS_BYTES));

function dial(cid: number, ownPort: number): number {
  const fd = Number(socket(AF_VSOCK, SOCK_STREAM, 0));
  if (fd < 0) return -koffi.errno();
  if (ownPort > 0 && call('bind', fd, encodeAddress({ cid: CID_ANY, port: ownPort })) < 0) return -koffi.errno();
  if (call('connect', fd, encodeAddress({ cid, port: AGENT_PORT })) < 0) return -koffi.errno();
  // the agent speaks first, with its HTTP/2 settings
  return readSync(fd, Buffer.alloc(64));
}

const [cid, ownPort] = process.argv.slice(2).map(Number);
process.stdout.write(`${dial(cid ?? 0, ownPort ?? 0)}\n`);
