/**
 * Plays the guest on a tap, for network.test.ts: opens tap0 of the netns it is started in as QEMU would, through the
 * tun device argv[4], and answers ARP for argv[2] with the MAC argv[3]. Prints a line once the tap is open, and one for
 * each request that it answered.
 */
import { openSync, readSync, writeSync } from 'node:fs';
import { argv } from 'node:process';
import koffi from 'koffi';

const [ip = '', mac = '', device = ''] = argv.slice(2);
const TUNSETIFF = 0x400454ca;
const IFF_TAP_NO_PI = 0x1002;
const ARP_REQUEST = Buffer.from('08060001080006040001', 'hex');
const ARP_REPLY = Buffer.from('08060001080006040002', 'hex');

const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, void *argument)');
const ipBytes = Buffer.from(ip.split('.').map(Number));
const macBytes = Buffer.from(mac.replaceAll(':', ''), 'hex');

const tap = openSync(device, 'r+');
const request = Buffer.alloc(40);
request.write('tap0');
request.writeUInt16LE(IFF_TAP_NO_PI, 16);
if (ioctl(tap, TUNSETIFF, request) !== 0) throw new Error('TUNSETIFF failed');
console.log('open');

const frame = Buffer.alloc(65536);
for (;;) {
  const length = readSync(tap, frame);
  const isRequest =
    length >= 42 && frame.subarray(12, 22).equals(ARP_REQUEST) && frame.subarray(38, 42).equals(ipBytes);
  if (!isRequest) continue;
  const asker = frame.subarray(22, 32);
  writeSync(tap, Buffer.concat([asker.subarray(0, 6), macBytes, ARP_REPLY, macBytes, ipBytes, asker]));
  console.log('answered');
}
