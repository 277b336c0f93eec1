import { busyboxImage } from './busybox.ts';
import { debianRoot, programsWithLibraries } from './critest/programs.ts';
import type { ImageSpec } from './layout.ts';

const PACKAGES = ['bash', 'openssh-client', 'rsync'] as const;
const PROGRAMS = ['usr/bin/bash', 'usr/bin/scp', 'usr/bin/rsync'] as const;

/** busybox, and what clients of ssh expect at the other end. `cache`: as for `debianRoot`. */
export async function sshToolsImage(name: string, cache: string): Promise<ImageSpec> {
  const base = await busyboxImage(name);
  const content = await programsWithLibraries(await debianRoot(cache, PACKAGES), PROGRAMS);
  return { ...base, layers: [...base.layers, { content }] };
}
