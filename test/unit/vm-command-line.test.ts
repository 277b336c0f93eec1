import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { commandLine, DISK_NODE, kernelArguments, nodeName, quote, scsiDisk } from '../../src/vm/qemu/command-line.ts';

const options = {
  spec: {
    sandboxId: 'a'.repeat(64),
    cid: 7,
    uid: 6_000_001,
    network: { netnsPath: '/run/netns/x', tapName: 'tap0', mac: '02:00:00:00:00:01' },
    scratch: '/d,ir/"x"',
  },
  shape: { least: { vcpus: 1, memoryMib: 256 }, most: { vcpus: 2, memoryMib: 1024 } },
  directory: '/run/cai,sson/x',
  guestImage: '/g',
  accelerator: 'tcg',
  cpuModel: 'max',
  transport: 'vhost-user-vsock',
  memory: 'anonymous',
  incoming: false,
  vsock: 'present',
  extraKernelArguments: ['caisson.template'],
} as const;

const after = (args: readonly string[], option: string): string[] =>
  args.flatMap((arg, i) => (arg === option ? [args[i + 1] ?? ''] : []));

describe("QEMU's command line", () => {
  it('doubles commas in values of its option syntax and leaves JSON alone', () => {
    assert.equal(quote('a,b'), 'a,,b');
    const args = commandLine(options);
    assert.ok(after(args, '-chardev').some((text) => text.includes('path=/run/cai,,sson/x/run/qmp.sock,')));
    const disk = after(args, '-blockdev')
      .map((text) => JSON.parse(text))
      .find((node) => node['node-name'] === 'disk-scratch');
    assert.equal(disk.file.filename, '/d,ir/"x"');
    assert.equal(disk.backing, undefined);
  });

  it("gives a clone's disk the template's as its base, which has none", () => {
    const [disk] = after(commandLine({ ...options, scratchBase: 5 }), '-blockdev')
      .map((text) => JSON.parse(text))
      .filter((node) => node['node-name'] === 'disk-scratch');
    const { file, backing } = disk.backing;
    assert.deepEqual([file.filename, file['read-only'], backing], ['/proc/self/fd/5', true, null]);
  });

  it('is always caged, shares its memory and has no default devices', () => {
    const args = commandLine(options);
    assert.deepEqual(after(args, '-sandbox'), [
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
    assert.ok(args.includes('-nodefaults') && args.includes('-no-user-config') && args.includes('-S'));
    assert.match(after(args, '-object')[0] ?? '', /^memory-backend-memfd,.*share=on$/);
    const file = (isPrivate: boolean): string =>
      after(commandLine({ ...options, memory: { fd: 3, isPrivate } }), '-object')[0] ?? '';
    assert.match(file(false), /,share=on,mem-path=\/proc\/self\/fd\/3$/);
    assert.match(file(true), /,share=off,readonly=on,rom=off,mem-path=\/proc\/self\/fd\/3$/);
  });

  it('tells the agent to ask for a privileged port where every user could dial it', () => {
    const words = (transport: 'vhost-vsock' | 'vhost-user-vsock'): string =>
      after(commandLine({ ...options, transport }), '-append')[0] ?? '';
    assert.match(words('vhost-vsock'), / caisson\.privileged /);
    assert.doesNotMatch(words('vhost-user-vsock'), /caisson\.privileged/);
  });

  it('has the vsock device at once, later or not at all', () => {
    const devices = (vsock: 'present' | 'plugged later'): boolean =>
      after(commandLine({ ...options, vsock }), '-device').some((device) => device.startsWith('vhost-user-vsock-pci'));
    assert.equal(devices('present'), true);
    assert.equal(devices('plugged later'), false);
    const kernel = commandLine({ ...options, transport: 'vhost-vsock' });
    assert.ok(after(kernel, '-device').includes('vhost-vsock-pci,guest-cid=7'));
  });

  it('turns mitigations off only where nothing speculates', () => {
    assert.match(kernelArguments('tcg'), /mitigations=off/);
    assert.doesNotMatch(kernelArguments('kvm'), /mitigations/);
  });

  it('gives every disk a unit of its own and a name that tells its serial', () => {
    const disk = { serial: 'abc', path: '/x', format: 'raw', readOnly: true } as const;
    assert.deepEqual([scsiDisk(disk, 0)['scsi-id'], scsiDisk(disk, 0)['lun']], [0, 0]);
    assert.deepEqual([scsiDisk(disk, 257)['scsi-id'], scsiDisk(disk, 257)['lun']], [1, 1]);
    assert.equal(DISK_NODE.exec(nodeName('abc'))?.[1], 'abc');
  });
});
