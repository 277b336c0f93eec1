/** What goes into the guest image. Any change here, in this folder or in the agent makes `caisson image build` rebuild. */

/** Debian packages of the root file system, extracted without running their scripts. */
export const packages = [
  'apparmor', // compiles profiles that the node has as text
  'busybox-static',
  'crun',
  'e2fsprogs',
  'iproute2',
  'kmod',
  'libstdc++6', // Node
  'linux-image-cloud-amd64',
] as const;

/** Files that no guest process needs. */
export const excludedPaths = [
  '/usr/share/doc/*',
  '/usr/share/man/*',
  '/usr/share/locale/*',
  '/usr/share/info/*',
  '/usr/share/i18n/*',
  '/usr/share/initramfs-tools/*',
  '/usr/lib/systemd/*',
  '/usr/lib/udev/*',
  '/usr/lib/klibc/*',
  '/usr/lib/dracut/*',
] as const;

/** Loaded by the initramfs, in this order and with what they depend on: the root disk and its file system. */
export const bootModules = ['virtio_blk', 'erofs'] as const;

/** Loaded before the agent starts: the agent's channel, the pod's network, disks, layers, volumes, more memory. */
export const rootModules = [
  'vmw_vsock_virtio_transport',
  'virtio_net',
  'virtio_scsi',
  'sd_mod',
  'ext4',
  'overlay',
  'virtio-rng',
  'virtiofs',
  'virtio_mem',
] as const;

/** Where things are in the root. */
export const guestPaths = {
  node: '/usr/lib/caisson/node',
  agent: '/usr/lib/caisson/agent.cjs',
  /** started by the agent for each SFTP session */
  sftp: '/usr/lib/caisson/sftp.cjs',
  init: '/sbin/init',
  crun: '/usr/bin/crun',
  /** compiled */
  apparmorDefault: '/usr/lib/caisson/apparmor-default',
} as const;
