import { readFile } from 'node:fs/promises';
import { run } from '../src/lib/exec.ts';
import type { ImageSpec, TarEntry } from './layout.ts';

const BUSYBOX = '/bin/busybox';
const DIRECTORIES = ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'run', 'sys', 'usr', 'usr/bin', 'var'];

/**
 * The busybox of the host's package busybox-static with all its applets, users root and app (uid 1000), and `sh` as its
 * command. Throws `failed_precondition` when the package is not installed.
 */
export async function busyboxImage(name = 'caisson.test/busybox:latest'): Promise<ImageSpec> {
  const { stdout } = await run(BUSYBOX, ['--list'], { installHint: 'apt-get install busybox-static' });
  const applets = stdout.split('\n').filter((applet) => applet !== '' && applet !== 'busybox');
  const content: TarEntry[] = [
    ...DIRECTORIES.map((directory) => ({ name: directory, type: 'directory' as const })),
    { name: 'tmp', type: 'directory', mode: 0o1777 },
    { name: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n' },
    { name: 'etc/group', content: 'root:x:0:\napp:x:1000:\nextra:x:2000:app\n' },
    { name: 'home/app', type: 'directory', uid: 1000, gid: 1000 },
    { name: 'bin/busybox', mode: 0o755, content: await readFile(BUSYBOX) },
    ...applets.map((applet) => ({ name: `bin/${applet}`, type: 'symlink' as const, linkname: 'busybox' })),
  ];
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return { name, layers: [{ content }], config: { Cmd: ['sh'], Env: [path] } };
}
