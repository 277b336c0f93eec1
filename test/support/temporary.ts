import { chmod, mkdtemp } from 'node:fs/promises';

/** Short, for sockets' paths, and readable for all, for the VMs' users. The caller removes it. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp('/tmp/cst-');
  await chmod(directory, 0o755);
  return directory;
}
