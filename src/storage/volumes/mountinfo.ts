import { readFile } from 'node:fs/promises';

/** A line of /proc/PID/mountinfo: proc_pid_mountinfo(5). */
export interface MountEntry {
  readonly id: number;
  /** `major:minor` of the file system */
  readonly device: string;
  /** what of the file system is mounted */
  readonly root: string;
  readonly mountpoint: string;
  readonly readOnly: boolean;
  readonly type: string;
  /** gets or hands on what is mounted below it elsewhere */
  readonly propagates: boolean;
}

export async function readMounts(pid: number | 'self'): Promise<MountEntry[]> {
  return parseMounts(await readFile(`/proc/${pid}/mountinfo`, 'utf8'));
}

export function parseMounts(text: string): MountEntry[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [id, , device = '', root = '', mountpoint = '', options = '', ...rest] = line.split(' ');
      const tags = rest.slice(0, rest.indexOf('-'));
      return {
        id: Number(id),
        device,
        root: unescape(root),
        mountpoint: unescape(mountpoint),
        type: rest[rest.indexOf('-') + 1] ?? '',
        readOnly: options.split(',').includes('ro'),
        propagates: tags.some((tag) => tag.startsWith('shared:') || tag.startsWith('master:')),
      };
    });
}

const MAY_HANG = /^(nfs4?|cifs|smb3|ceph|afs|lustre|gpfs|glusterfs|9p|fuse|fuseblk|fuse\..*)$/;

/** Whether another machine, or a process, serves it: then any look at a file may take for ever. */
export const mayHang = ({ type }: Pick<MountEntry, 'type'>): boolean => MAY_HANG.test(type);

/** Blanks, tabs, line breaks and backslashes are written as `\ooo`. */
const unescape = (path: string): string =>
  path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Where a file is: the same for every path that leads to it by bind mounts. */
export interface Location {
  readonly device: string;
  /** from the root of the file system */
  readonly path: string;
}

export function locate(mount: MountEntry, path: string): Location {
  const below = mount.mountpoint === '/' ? path : path.slice(mount.mountpoint.length);
  return { device: mount.device, path: join(mount.root, below) };
}

const join = (root: string, below: string): string => (root === '/' ? below || '/' : `${root}${below}`);

export const isBelow = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);
