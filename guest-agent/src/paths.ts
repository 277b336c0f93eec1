/** Every path the agent uses in the VM's root. */
export const paths = {
  run: '/run/caisson',
  scratch: '/run/caisson/scratch',
  shm: '/run/caisson/shm',
  mqueue: '/run/caisson/mqueue',
  resolvConf: '/run/caisson/resolv.conf',
  hosts: '/run/caisson/hosts',
  hostname: '/run/caisson/hostname',
  volumes: '/run/caisson/volumes',
  images: '/run/caisson/images',
  mirrors: '/run/caisson/mirrors',
  memory: '/run/caisson/memory',
  parts: '/run/caisson/parts',
  cgroups: '/sys/fs/cgroup',
  containerCgroups: '/sys/fs/cgroup/caisson',
  crunRoot: '/run/crun',
} as const;

/** Short, because the lowerdir option of up to 127 layers must fit one page. */
export const layerPath = (number: number): string => `/l/${number}`;

export const containerPaths = (id: string) => {
  const home = `${paths.run}/containers/${id}`;
  return {
    home,
    rootfs: `${home}/rootfs`,
    spec: `${home}/config.json`,
    // not in the file system's root, whose directories ext4 spreads over the disk
    writable: `${paths.scratch}/containers/${id}`,
    cgroup: `${paths.cgroups}${cgroupPath(id)}`,
  };
};

/** As OCI's linux.cgroupsPath. */
export const cgroupPath = (id: string): string => `/caisson/${id}`;
