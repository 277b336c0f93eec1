import { z } from 'zod';

const registryEndpoint = z.strictObject({
  location: z.string().min(1).describe('host[:port][/path]'),
  insecure: z.boolean().default(false).describe('plain HTTP, or TLS without verification'),
});

const optionalPath = z
  .string()
  .refine((path) => path === '' || path.startsWith('/'), 'must be an absolute path')
  .default('');

/** The configuration file, key by key. `.describe` texts are the comments of `caisson config --default`. */
export const configSchema = z.strictObject({
  version: z.literal(1).default(1).describe('version of this file format'),
  root: z.string().startsWith('/').default('/var/lib/caisson').describe('kept across reboots: images, disks, database'),
  state: z
    .string()
    .startsWith('/')
    .default('/run/caisson')
    .describe('gone at reboot: sockets and files of running VMs'),
  socket: z.string().startsWith('/').default('/run/caisson/caisson.sock').describe('the CRI socket, root only'),
  log: z
    .strictObject({
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info').describe('least level that is logged'),
    })
    .prefault({}),
  vm: z
    .strictObject({
      qemu: z.string().default('qemu-system-x86_64').describe('QEMU program'),
      vhost_device_vsock: z
        .string()
        .default('vhost-device-vsock')
        .describe('vsock back end for hosts without kernel vhost-vsock'),
      guest_image: z
        .string()
        .startsWith('/')
        .default('/var/lib/caisson/guest')
        .describe('directory made by `caisson image build`'),
      accelerator: z
        .enum(['auto', 'kvm', 'tcg'])
        .default('auto')
        .describe('auto: KVM if a guest really boots with it, else TCG'),
      transport: z
        .enum(['auto', 'vhost-vsock', 'vhost-user-vsock'])
        .default('auto')
        .describe("auto: the kernel's where /dev/vhost-vsock exists"),
      template: z.boolean().default(true).describe('start pods as clones of a VM that has booted once'),
      vcpus: z.int().min(1).max(64).default(1).describe('of a pod without limits; limits add more'),
      max_vcpus: z.int().min(1).max(64).default(8).describe('of a pod with limits, if the host has as many'),
      memory_mib: z
        .int()
        .min(192)
        .default(256)
        .describe('of a pod without limits, guest kernel and agent included; limits come on top'),
      pool: z.int().min(0).max(64).default(2).describe('VMs that wait for pods; each takes the memory of an idle pod'),
      memory_reserve_mib: z
        .int()
        .min(0)
        .default(256)
        .describe('left to the host: below it no pod starts and waiting VMs are given up'),
      cgroup_parent: z
        .string()
        .regex(/^(\/[^/\s]+)+$/, 'must be an absolute path')
        .refine((path) => !path.split('/').includes('..'), 'must not have ".." in it')
        .default('/caisson')
        .describe('cgroup for pods whose caller names none'),
      cgroup_driver: z
        .enum(['cgroupfs', 'systemd'])
        .default('cgroupfs')
        .describe('how the kubelet is told to name the cgroups of pods: as paths, or as slices of systemd'),
      boot_timeout_s: z.int().min(1).default(90).describe('a VM whose agent has not answered by then is killed'),
      uid_base: z
        .int()
        .min(1000)
        .default(6_000_000)
        .describe('each VM runs as its own user: uid_base + its vsock address modulo 65536'),
    })
    .prefault({}),
  cdi: z
    .strictObject({
      spec_dirs: z
        .array(z.string().startsWith('/'))
        .default(['/etc/cdi', '/var/run/cdi'])
        .describe('specifications of the Container Device Interface; later ones take precedence'),
    })
    .prefault({}),
  apparmor: z
    .strictObject({
      profile_dir: z.string().startsWith('/').default('/etc/apparmor.d').describe('files with profiles that pods name'),
      profiles: z
        .enum(['auto', 'kernel', 'files'])
        .default('auto')
        .describe(
          "kernel: those that the node's has loaded; files: those of profile_dir; auto: kernel if it has AppArmor",
        ),
    })
    .prefault({}),
  image: z
    .strictObject({
      signature_policy: optionalPath.describe('policy.json of signatures; /etc/containers/policy.json if empty'),
      pinned: z
        .array(z.string().min(1))
        .default([])
        .describe('images that the kubelet never removes to save space; a name that ends in * means all that begin so'),
      max_parallel_pulls: z.int().min(1).default(3).describe('pulls at once; more wait'),
      registry: z
        .array(
          z.strictObject({
            prefix: z.string().min(1).describe('image names it applies to, such as docker.io or registry.k8s.io/pause'),
            location: z.string().optional().describe('where they really are, if not under their own name'),
            insecure: z.boolean().default(false).describe('plain HTTP, or TLS without verification'),
            blocked: z.boolean().default(false).describe('refuse pulls'),
            mirror: z.array(registryEndpoint).default([]).describe('tried in order before location'),
          }),
        )
        .default([])
        .describe('overrides entries of the same prefix in /etc/containers/registries.conf'),
    })
    .prefault({}),
  network: z
    .strictObject({
      conf_dir: z
        .string()
        .startsWith('/')
        .default('/etc/cni/net.d')
        .describe('CNI configuration; the first file by name counts'),
      bin_dirs: z.array(z.string().startsWith('/')).default(['/opt/cni/bin', '/usr/lib/cni']).describe('CNI plugins'),
      plugin_timeout_s: z.int().min(1).default(60).describe('a CNI plugin that runs longer is killed'),
    })
    .prefault({}),
  streaming: z
    .strictObject({
      address: z.string().min(1).default('127.0.0.1').describe('where exec, attach and port-forward are served'),
      port: z.int().min(0).max(65_535).default(0).describe('0 for a free one'),
      idle_timeout_s: z
        .int()
        .min(0)
        .default(14_400)
        .describe('a connection without a byte for so long is closed; 0: never'),
      tls_cert: optionalPath.describe('PEM file; with tls_key, URLs are https://'),
      tls_key: optionalPath.describe('PEM file'),
    })
    .refine(({ tls_cert, tls_key }) => (tls_cert === '') === (tls_key === ''), 'tls_cert and tls_key go together')
    .prefault({}),
  ssh: z
    .strictObject({
      enabled: z.boolean().default(false).describe('let people in by ssh, on a unix socket: see `caisson ssh setup`'),
      port: z.int().min(0).max(65_535).default(0).describe('also on this TCP port; 0: on none'),
      address: z.string().min(1).default('127.0.0.1').describe('of the TCP port'),
      socket: optionalPath.describe('empty: ssh.sock in the state directory'),
      authorized_keys: optionalPath.describe(
        'whose keys get in, in the format of sshd, with pods="namespace/*"; empty: ssh/authorized_keys in root',
      ),
      accept_env: z
        .array(z.string().min(1))
        .default(['LANG', 'LC_*', 'TERM', 'COLORTERM'])
        .describe('variables that a client may set for its command'),
      vm_access: z
        .boolean()
        .default(false)
        .describe('vm:pod.namespace is a shell as root of the VM itself, beside its containers'),
      max_connections: z.int().min(1).default(64).describe('clients at once'),
      max_channels: z.int().min(1).default(256).describe('shells, commands and forwarded connections of all clients'),
      max_channels_per_connection: z.int().min(1).default(32).describe('of one client'),
      max_auth_tries: z.int().min(1).default(6).describe('refused keys before a client is cut off'),
      login_grace_s: z.int().min(1).default(30).describe('time to log in'),
    })
    .prefault({}),
  storage: z
    .strictObject({
      scratch_size_mib: z.int().min(64).default(10_240).describe('writable disk of a pod; grows as it is written'),
      virtiofsd: z
        .string()
        .startsWith('/')
        .default('/usr/libexec/virtiofsd')
        .describe('shows volumes to the guests; absolute, because Debian has it outside of PATH'),
    })
    .prefault({}),
});

export type Config = z.infer<typeof configSchema>;
