import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAdmitted } from '../../guest-agent/src/vsock-listener.ts';
import { CID_HOST, decodeAddress, encodeAddress } from '../../src/lib/vsock-address.ts';

const peer = (cid: number, port: number) => ({ cid, port });

describe("who may reach the agent's vsock port", () => {
  it('is the host, from a privileged port where every user of the host could dial', () => {
    const privilegedOnly = true;
    assert.equal(isAdmitted(peer(CID_HOST, 1023), { privilegedOnly }), true);
    assert.equal(isAdmitted(peer(CID_HOST, 1024), { privilegedOnly }), false);
    assert.equal(isAdmitted(peer(CID_HOST, 0x4000_0000), { privilegedOnly: false }), true);
  });

  it('is nobody else: not a container of the same guest by loopback, not whoever has gone', () => {
    for (const cid of [1, 3, 0xffff_ffff]) assert.equal(isAdmitted(peer(cid, 1), { privilegedOnly: false }), false);
    assert.equal(isAdmitted(undefined, { privilegedOnly: false }), false);
  });

  it('is told by an address that goes to the kernel and back', () => {
    const address = peer(0x7fff_0001, 1024);
    assert.deepEqual(decodeAddress(encodeAddress(address)), address);
    assert.deepEqual([...encodeAddress(address)], [40, 0, 0, 0, 0, 4, 0, 0, 1, 0, 255, 127, 0, 0, 0, 0]);
  });
});
