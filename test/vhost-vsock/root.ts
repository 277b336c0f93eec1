import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { extractDebianPackages } from '../../images/debian.ts';
import { makeBootFiles } from '../../images/guest/boot-files.ts';
import { excludedPaths } from '../../images/guest/recipe.ts';
import { run } from '../../src/lib/exec.ts';
import { exists, removeTree } from '../../src/lib/files.ts';

const repository = resolve(import.meta.dirname, '../..');
const cache = join(repository, '.cache/vhost-vsock');

/** What bin/setup installs and pods need while they run, and the tools that an extracted root lacks. */
const packages = [
  ...['qemu-system-x86', 'qemu-utils', 'erofs-utils', 'crun', 'skopeo', 'kmod', 'containernetworking-plugins'],
  ...[
    'virtiofsd',
    'busybox-static',
    'e2fsprogs',
    'iproute2',
    'iptables',
    'cpio',
    'xz-utils',
    'zstd',
    'linux-image-cloud-amd64',
  ],
  ...['bash', 'coreutils', 'dash', 'findutils', 'grep', 'libstdc++6', 'mount', 'procps', 'sed', 'util-linux'],
];

/** One network for all pods, without masquerading: nothing is outside. */
const CNI = {
  cniVersion: '1.0.0',
  name: 'nested',
  plugins: [
    {
      type: 'bridge',
      bridge: 'caisson0',
      isGateway: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/16' }]], routes: [{ dst: '0.0.0.0/0' }] },
    },
  ],
};

const MOUNT_POINTS = ['proc', 'sys', 'dev', 'run', 'tmp', 'var', 'project', 'guest', 'scratch'];
const ACCOUNTS = 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n';

/** A directory with `kernel`, `initramfs` and `root.erofs` of the node that runs inside; kept until its recipe changes. */
export async function nodeImage(progress: (step: string) => void): Promise<string> {
  const hash = createHash('sha256');
  for (const file of ['root.ts', 'init']) hash.update(await readFile(join(import.meta.dirname, file)));
  const directory = join(cache, hash.digest('hex').slice(0, 12));
  if (await exists(directory)) return directory;
  await removeTree(cache);
  const work = `${directory}.build`;
  const root = join(work, 'root');
  await mkdir(work, { recursive: true });
  try {
    progress(`making the node's root from ${packages.length} Debian packages (once, then it is kept)`);
    await extractDebianPackages(
      root,
      packages,
      excludedPaths.map((path) => `--dpkgopt=path-exclude=${path}`),
    );
    await Promise.all(['var/cache', 'var/lib/apt'].map((path) => removeTree(join(root, path))));
    await makeBootFiles(root, work);
    await finishRoot(root);
    await run('mkfs.erofs', ['--quiet', '-T0', '--all-root', join(work, 'root.erofs'), root]);
    await removeTree(root);
    await rename(work, directory);
    return directory;
  } finally {
    await removeTree(work);
  }
}

async function finishRoot(root: string): Promise<void> {
  for (const path of MOUNT_POINTS) await mkdir(join(root, path), { recursive: true });
  await mkdir(join(root, 'etc/cni/net.d'), { recursive: true });
  await writeFile(join(root, 'etc/cni/net.d/10-nested.conflist'), JSON.stringify(CNI));
  await writeFile(join(root, 'etc/passwd'), ACCOUNTS);
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  await writeFile(join(root, 'etc/hosts'), '127.0.0.1 localhost\n');
  // the package's script would do it
  await symlink('xtables-nft-multi', join(root, 'usr/sbin/iptables'));
  const init = join(root, 'usr/sbin/init');
  await rm(init, { force: true });
  await copyFile(join(import.meta.dirname, 'init'), init);
  await chmod(init, 0o755);
}

/** Directories whose files the node does not need; they would only make its disk larger. */
const LEFT_OUT = String.raw`^(\.git|\.cache|docs|node_modules/(\.cache|typescript|@typescript|oxlint|@oxlint|oxfmt|@oxfmt|oxlint-tsgolint|@oxlint-tsgolint))(/|$)`;

/** Disks with this checkout and with a guest image, read-only, and an empty one to write to. */
export async function nodeDisks(directory: string, guestImage: string): Promise<readonly string[]> {
  const [project, guest, scratch] = ['project.erofs', 'guest.erofs', 'scratch'].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  await run('mkfs.erofs', ['--quiet', '-T0', '--all-root', `--exclude-regex=${LEFT_OUT}`, project, repository]);
  await run('mkfs.erofs', ['--quiet', '-T0', '--all-root', guest, guestImage]);
  await run('truncate', ['--size=16G', scratch]);
  await run('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=1,nodiscard', scratch]);
  return [project, guest, scratch];
}
