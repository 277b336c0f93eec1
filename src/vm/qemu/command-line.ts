import {
  SCRATCH_SERIAL,
  type Accelerator,
  type DiskSpec,
  type VmSize,
  type VmSpec,
  type VsockTransport,
} from '../contracts.ts';

/** What a VM starts with, and what it can grow to by plugging. */
export interface MachineShape {
  readonly least: VmSize;
  readonly most: VmSize;
}

/** Where the guest's memory is: an inherited descriptor, so that nothing but QEMU keeps the memory alive. */
export interface MemoryFile {
  readonly fd: number;
  /** the file is only read: a page that is written becomes the VM's own */
  readonly isPrivate: boolean;
}

export interface MachineOptions {
  readonly spec: VmSpec;
  readonly shape: MachineShape;
  /** sockets and files of this VM */
  readonly directory: string;
  readonly guestImage: string;
  readonly accelerator: Accelerator;
  /** QEMU's `-cpu` */
  readonly cpuModel: string;
  readonly transport: VsockTransport;
  readonly memory: 'anonymous' | MemoryFile;
  /** descriptor of what the scratch disk shows until it is written; undefined: the file that its own header names */
  readonly scratchBase?: number | undefined;
  /** waits for the state of another VM of the same shape instead of booting */
  readonly incoming: boolean;
  /** a vhost-user device cannot be part of a saved state: such VMs get it plugged in when they run */
  readonly vsock: 'present' | 'plugged later' | 'none';
  /** for the guest's agent */
  readonly extraKernelArguments: readonly string[];
}

/** Below `run` is the VM's user's; the rest is root's, out of reach of a QEMU that a guest has taken over. */
export const vmPaths = (directory: string) => ({
  run: `${directory}/run`,
  qmp: `${directory}/run/qmp.sock`,
  console: `${directory}/run/console.sock`,
  vhostUser: `${directory}/run/vhost.sock`,
  vsock: `${directory}/run/vsock.sock`,
  savedState: `${directory}/run/state`,
  agent: `${directory}/agent.sock`,
  devices: `${directory}/dev`,
  guestLog: `${directory}/guest.log`,
  qemuLog: `${directory}/qemu.log`,
  vsockLog: `${directory}/vsock.log`,
});

/** Every comma in a value of QEMU's option syntax is doubled: that is all the quoting it has. */
export const quote = (value: string): string => value.replaceAll(',', ',,');

/**
 * A new disk answers some 40 commands; without these 20: its INQUIRY in two steps, the size of each page of product data, what
 * commands it knows, hints for streams. Linux scsi/scsi_devinfo.h: INQUIRY_36, NO_VPD_SIZE, NO_RSOC, SKIP_IO_HINTS.
 */
const FEW_SCSI_QUESTIONS = 2 ** 10 + 2 ** 13 + 2 ** 29 + 2 ** 34;

// Measured in design.md section 6: kernel to /init 2.3 s by default, 1.6 s with these.
const KERNEL_ARGUMENTS = [
  'console=hvc0',
  'quiet',
  'loglevel=4',
  'tsc=reliable',
  'no_timer_check',
  '8250.nr_uarts=1',
  'i8042.noaux',
  'i8042.nopnp',
  'cryptomgr.notests',
  'pci=lastbus=0',
  'random.trust_cpu=on',
  'rcupdate.rcu_expedited=1',
  'noreplace-smp',
  'net.ifnames=0',
  'memhp_default_state=online_kernel',
  'swiotlb=noforce',
  `scsi_mod.default_dev_flags=${FEW_SCSI_QUESTIONS}`,
  'panic=-1',
  'reboot=t',
];

/**
 * An emulated CPU speculates nothing, so mitigations only cost. Code that V8 makes at run time has to be translated at once,
 * which costs more than it gains: there the agent is interpreted (images/guest/root-init).
 */
const TCG_ARGUMENTS = ['mitigations=off', 'caisson.interpret'];

export function kernelArguments(accelerator: Accelerator): string {
  return [...KERNEL_ARGUMENTS, ...(accelerator === 'tcg' ? TCG_ARGUMENTS : [])].join(' ');
}

function agentArguments({ shape, transport, extraKernelArguments }: MachineOptions): string[] {
  // any user of the host can dial through the kernel's vsock, so there the agent asks for a privileged port
  const access = transport === 'vhost-vsock' ? ['caisson.privileged'] : [];
  return [`maxcpus=${shape.least.vcpus}`, ...access, ...extraKernelArguments];
}

/** Everything behind the program's name. The VM starts stopped, so that nobody misses its first words. */
export function commandLine(options: MachineOptions): string[] {
  const { spec, shape, directory, guestImage } = options;
  const { least, most } = shape;
  const socket = vmPaths(directory);
  return [
    ...['-name', `caisson-${spec.sandboxId.slice(0, 13)},debug-threads=on`],
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-S'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    // the HPET would tick 250 times a second for a guest that does not listen
    ...['-M', 'q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off,memory-backend=ram'],
    // MiB for translated code: a pod's first minute fills 137; when it is full, everything is translated again
    ...['-accel', options.accelerator === 'kvm' ? 'kvm' : 'tcg,tb-size=256'],
    // all that a pod may get, most of them offline: docs/decisions/0010
    ...['-cpu', options.cpuModel, '-smp', String(most.vcpus)],
    ...['-m', `${least.memoryMib}M,maxmem=${most.memoryMib}M`],
    ...['-object', memory(options)],
    ...['-kernel', `${guestImage}/kernel`, '-initrd', `${guestImage}/initramfs`],
    ...['-append', [kernelArguments(options.accelerator), ...agentArguments(options)].join(' ')],
    ...(options.incoming ? ['-incoming', 'defer'] : []),
    ...['-chardev', `socket,id=qmp,path=${quote(socket.qmp)},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
    ...['-device', 'virtio-serial-pci,id=serial0'],
    ...[
      '-chardev',
      `socket,id=console,path=${quote(socket.console)},server=on,wait=off`,
      '-device',
      'virtconsole,chardev=console',
    ],
    ...[
      '-blockdev',
      JSON.stringify(blockdevOptions('root', { path: `${guestImage}/root.erofs`, format: 'raw', readOnly: true })),
    ],
    ...['-device', 'virtio-blk-pci,drive=root'],
    ...['-device', 'virtio-scsi-pci,id=scsi0'],
    ...scratch(options),
    ...['-device', 'virtio-rng-pci', '-device', 'vmgenid,guid=auto'],
    ...network(spec),
    ...[VSOCK_PORT, FS_PORT, MEMORY_PORT].flatMap((id, index) => [
      '-device',
      `pcie-root-port,id=${id},chassis=${index + 1},slot=${index + 1}`,
    ]),
    ...(options.vsock === 'present' ? vsock(options, socket.vhostUser) : []),
  ];
}

/** Shared, unless no vhost-user device will ever read and write the guest's memory. */
function memory({ shape, memory: where }: MachineOptions): string {
  const size = `${shape.least.memoryMib}M`;
  if (where === 'anonymous') return `memory-backend-memfd,id=ram,size=${size},share=on`;
  const sharing = where.isPrivate ? 'share=off,readonly=on,rom=off' : 'share=on';
  return `memory-backend-file,id=ram,size=${size},${sharing},mem-path=/proc/self/fd/${where.fd}`;
}

/** It needs no other file, whatever its header says. */
function templateDisk(fd: number): object {
  const disk = { path: `/proc/self/fd/${fd}`, format: 'qcow2', readOnly: true } as const;
  return { ...blockdevOptions('scratch-base', disk), backing: null };
}

function scratch({ spec, scratchBase }: MachineOptions): string[] {
  if (spec.scratch === undefined) return [];
  const disk = { serial: SCRATCH_SERIAL, path: spec.scratch, format: 'qcow2', readOnly: false } as const;
  const node = {
    ...blockdevOptions(nodeName(disk.serial), disk),
    ...(scratchBase !== undefined && { backing: templateDisk(scratchBase) }),
  };
  return ['-blockdev', JSON.stringify(node), '-device', JSON.stringify(scsiDisk(disk, 0))];
}

function network({ network: net }: VmSpec): string[] {
  if (!net) return [];
  return [
    ...['-netdev', `tap,id=net0,ifname=${net.tapName},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net0,mac=${net.mac},romfile=`],
  ];
}

function vsock({ spec, transport }: MachineOptions, vhostUserSocket: string): string[] {
  if (transport === 'vhost-vsock') return ['-device', `vhost-vsock-pci,guest-cid=${spec.cid}`];
  return [
    '-chardev',
    `socket,id=vsock,path=${quote(vhostUserSocket)}`,
    '-device',
    `vhost-user-vsock-pci,chardev=vsock,bus=${VSOCK_PORT}`,
  ];
}

/** The root port that waits for the vsock device. */
export const VSOCK_PORT = 'vsock-port';
/** The root port that waits for more memory. */
export const MEMORY_PORT = 'memory-port';

/** The root port that waits for the pod's volumes. */
export const FS_PORT = 'fs-port';

/** QMP's and -blockdev's name of the disk with this serial. */
export const nodeName = (serial: string): string => `disk-${serial}`;

/** The serial in a node's name. */
export const DISK_NODE = /^disk-(.+)$/;

/** Flushes of a disk that dies with the pod cost time and save nobody; a device of the node outlives it. */
export function blockdevOptions(name: string, disk: Omit<DiskSpec, 'serial'>): object {
  return {
    driver: disk.format,
    'node-name': name,
    'read-only': disk.readOnly,
    ...(!disk.readOnly && { cache: { direct: false, 'no-flush': disk.device === undefined }, discard: 'unmap' }),
    file: {
      driver: disk.device ? 'host_device' : 'file',
      filename: disk.path,
      'read-only': disk.readOnly,
      ...(!disk.readOnly && { discard: 'unmap' }),
    },
  };
}

/** Logical unit numbers from 256 on need another addressing method, so a target holds 256 disks. */
export function scsiDisk(disk: DiskSpec, index: number): Record<string, unknown> {
  return {
    driver: 'scsi-hd',
    id: `scsi-${disk.serial}`,
    bus: 'scsi0.0',
    drive: nodeName(disk.serial),
    serial: disk.serial,
    device_id: disk.serial,
    'scsi-id': index >> 8,
    lun: index & 0xff,
    ...(disk.readOnly && { 'share-rw': true }),
  };
}
