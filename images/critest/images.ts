import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { busyboxImage } from '../busybox.ts';
import type { ImageSpec, LayerSpec, TarEntry } from '../layout.ts';
import { debianRoot, programsWithLibraries } from './programs.ts';
import { apacheConfig, nginxConfig } from './web-servers.ts';

/** An image with the names that critest pulls it by. */
export interface TestImage {
  readonly names: readonly string[];
  readonly spec: ImageSpec;
}

export interface TestImagePlaces {
  /** where extracted Debian packages are kept from run to run */
  readonly cache: string;
  /** the directory of the programs `nnp` and `pause` */
  readonly binaries: string;
}

const E2E = 'registry.k8s.io/e2e-test-images';
const STAGING = 'gcr.io/k8s-staging-cri-tools';
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** the port that critest expects of hostnet-nginx */
const HOST_NETWORK_PORT = 12003;

/**
 * What critest v1.36.0 pulls, made of Debian's programs instead of the publishers' layers: the same names, users, ports
 * and words. Left out is the one image that is named by its publisher's digest.
 */
export async function critestImages(places: TestImagePlaces): Promise<TestImage[]> {
  const root = await debianRoot(places.cache);
  const base = await baseLayers(root);
  const busybox = (config: object = {}): ImageSpec => ({
    layers: base,
    config: { Env: [PATH], Cmd: ['sh'], ...config },
  });
  const withFiles = (content: readonly TarEntry[], config: object): ImageSpec => ({
    ...busybox(config),
    layers: [...base, { content }],
  });
  const marked = (name: string): ImageSpec => withFiles([{ name, content: `${name}\n` }], {});
  const staging = (name: string, spec: ImageSpec): TestImage => ({ names: [`${STAGING}/${name}`], spec });
  const binary = async (program: string, name: string, mode: number): Promise<TarEntry> => ({
    name,
    mode,
    content: await readFile(join(places.binaries, program)),
  });
  const nginx = await nginxLayer(root);
  const nginxOn = (port: number): ImageSpec => ({
    layers: [...base, nginx, { content: nginxConfig(port) }],
    config: { Env: [PATH], Cmd: ['nginx', '-g', 'daemon off;'], ExposedPorts: { [`${port}/tcp`]: {} } },
  });
  const users = { uid: '1002', username: 'www-data', 'uid-group': '1003:1004', 'username-group': 'www-data:1004' };
  return [
    { names: [`${E2E}/busybox:1.29-2`], spec: busybox() },
    { names: [`${E2E}/nginx:1.14-2`], spec: nginxOn(80) },
    staging('hostnet-nginx-amd64:latest', nginxOn(HOST_NETWORK_PORT)),
    { names: [`${E2E}/httpd:2.4.39-4`], spec: { ...busybox(), ...(await apacheImage(root, base)) } },
    {
      names: [`${E2E}/nonewprivs:1.3`],
      spec: withFiles([await binary('nnp', 'usr/local/bin/nnp', 0o4755)], { Cmd: ['nnp'] }),
    },
    {
      names: ['registry.k8s.io/pause:3.9', 'k8s.gcr.io/pause:3.9'],
      spec: {
        layers: [{ content: [await binary('pause', 'pause', 0o755)] }],
        config: { Env: [PATH], Entrypoint: ['/pause'], User: '65535:65535' },
      },
    },
    staging('test-image-latest:latest', marked('test-image-latest')),
    staging('test-image-tag:test', marked('test-image-tag-test')),
    staging('test-image-tag:all', marked('test-image-tag-all')),
    ...['1', '2', '3'].map((n) => staging(`test-image-${n}:latest`, marked(`test-image-${n}`))),
    { names: ['1', '2', '3'].map((tag) => `${STAGING}/test-image-tags:${tag}`), spec: marked('test-image-tags') },
    ...Object.entries(users).map(([name, User]) => staging(`test-image-user-${name}:latest`, busybox({ User }))),
    staging('test-image-predefined-group:latest', busybox({ User: '1000' })),
  ];
}

/** busybox, and what its Debian build lacks; the users that specs ask for. */
async function baseLayers(root: string): Promise<LayerSpec[]> {
  const { layers } = await busyboxImage();
  const tools = await programsWithLibraries(root, [
    'usr/bin/ipcs',
    'usr/bin/ipcmk',
    'usr/bin/pgrep',
    'usr/bin/busybox',
  ]);
  const passwd = [
    'root:x:0:0:root:/root:/bin/sh',
    'www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin',
    'default-user:x:1000:1000::/home/default-user:/bin/sh',
    'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin',
  ];
  const group = [
    'root:x:0:',
    'www-data:x:33:',
    'default-user:x:1000:',
    'group-defined-in-image:x:50000:default-user',
    'nogroup:x:65534:',
  ];
  const files: TarEntry[] = [
    // the static build's shell runs applets without looking for their files, so that masking one has no effect
    { name: 'bin/sh', type: 'symlink', linkname: '../usr/bin/busybox' },
    { name: 'etc/passwd', content: `${passwd.join('\n')}\n` },
    { name: 'etc/group', content: `${group.join('\n')}\n` },
    { name: 'home/default-user', type: 'directory', uid: 1000, gid: 1000 },
    { name: 'var/run', type: 'directory' },
    { name: 'var/log', type: 'directory' },
  ];
  return [...layers.map(withHardLinks), { content: [...tools, ...files] }];
}

/** Each applet a file of its own, as upstream has it: the MaskedPaths spec masks `ls` and still needs `sh`. */
function withHardLinks({ content }: LayerSpec): LayerSpec {
  if (Buffer.isBuffer(content)) return { content };
  return {
    content: content.map((entry) =>
      entry.linkname === 'busybox' ? { ...entry, type: 'link' as const, linkname: 'bin/busybox' } : entry,
    ),
  };
}

async function nginxLayer(root: string): Promise<LayerSpec> {
  const directories = ['var/lib/nginx', 'var/log/nginx'];
  return {
    content: [
      ...(await programsWithLibraries(root, ['usr/sbin/nginx'])),
      ...directories.map((name) => ({ name, type: 'directory' as const })),
    ],
  };
}

async function apacheImage(root: string, base: readonly LayerSpec[]): Promise<ImageSpec> {
  const modules = ['mpm_event', 'authz_core', 'dir'].map((name) => `usr/lib/apache2/modules/mod_${name}.so`);
  // the C library loads it only when a thread is cancelled
  const late = 'usr/lib/x86_64-linux-gnu/libgcc_s.so.1';
  const programs = await programsWithLibraries(root, ['usr/sbin/apache2', ...modules, late]);
  // under the name by which the upstream image has it, which it also prints into its log
  const renamed = programs.map((entry) =>
    entry.name === 'usr/sbin/apache2' ? { ...entry, name: 'usr/sbin/httpd' } : entry,
  );
  return {
    layers: [...base, { content: [...renamed, ...apacheConfig(modules)] }],
    config: { Env: [PATH], Cmd: ['/usr/sbin/httpd', '-D', 'FOREGROUND'], ExposedPorts: { '80/tcp': {} } },
  };
}
