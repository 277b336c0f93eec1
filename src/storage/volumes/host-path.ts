import { open, readFile, readlink, type FileHandle } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { Semaphore, withTimeout } from '../../lib/async.ts';
import { CaissonError, isCaissonError, isErrno } from '../../lib/errors.ts';
import { O_PATH } from '../../lib/mount-tree.ts';
import { constants } from 'node:fs';
import type { HostPath, HostPathKind } from '../contracts.ts';
import { dataLink } from './data-link.ts';
import { memoryVolume } from './memory-volume.ts';
import { isBelow, locate, mayHang, readMounts, type Location, type MountEntry } from './mountinfo.ts';

const MAX_LINKS = 40;
/** a network file system that hangs must not keep a create for ever */
const WALK_TIMEOUT_MS = 30_000;
/** Each look at it keeps one of the four threads that all of the daemon's files go through, and there is no way to get it back. */
const walks = new Semaphore(2);

/** Whether a guest can write in the directory at `location`, and so plant symbolic links there. */
export type IsGuestWritable = (location: Location) => Promise<boolean>;

/**
 * Opens what `path` names, one component after the other, so that the kernel never follows a link by itself. Links are
 * followed as long as no guest can have made them. The answer is of what is open, wherever the path leads later.
 */
export async function openHostPath(path: string, isGuestWritable: IsGuestWritable): Promise<HostPath> {
  const walk = walks.run(() => new Walk(path, isGuestWritable).run());
  try {
    return await withTimeout(walk, WALK_TIMEOUT_MS, `looking at host path ${path}`);
  } catch (error) {
    walk.then((late) => late[Symbol.asyncDispose]()).catch(() => undefined); // nobody has it any more
    throw explain(path, error);
  }
}

class Walk {
  readonly #asked: string;
  readonly #isGuestWritable: IsGuestWritable;
  #links = 0;

  constructor(asked: string, isGuestWritable: IsGuestWritable) {
    this.#asked = asked;
    this.#isGuestWritable = isGuestWritable;
  }

  async run(): Promise<HostPath> {
    let here = await open('/', O_PATH | constants.O_DIRECTORY);
    try {
      const todo = components(this.#asked);
      for (let name = todo.shift(); name !== undefined; name = todo.shift()) {
        const next = await open(`/proc/self/fd/${here.fd}/${name}`, O_PATH | constants.O_NOFOLLOW);
        if (!(await next.stat()).isSymbolicLink()) {
          await here.close();
          here = next;
          continue;
        }
        await next.close();
        const target = await this.#follow(here, name);
        todo.unshift(...components(target));
        if (!target.startsWith('/')) continue;
        await here.close();
        here = await open('/', O_PATH | constants.O_DIRECTORY);
      }
      return await describe(here);
    } catch (error) {
      await here.close();
      throw error;
    }
  }

  async #follow(directory: FileHandle, name: string): Promise<string> {
    if (++this.#links > MAX_LINKS) throw new CaissonError('invalid_argument', 'too many symbolic links');
    const { path, mount } = await placeOf(directory, await readMounts('self'));
    if (await this.#isGuestWritable(locate(mount, path))) {
      throw new CaissonError(
        'failed_precondition',
        `${path}/${name} is a symbolic link in a volume that a pod can write: it is not followed`,
        { hint: 'name the place it leads to' },
      );
    }
    return readlink(`/proc/self/fd/${directory.fd}/${name}`);
  }
}

const components = (path: string): string[] => path.split('/').filter((name) => name !== '' && name !== '.');

/** Takes the handle over. */
async function describe(handle: FileHandle): Promise<HostPath> {
  const mounts = await readMounts('self');
  const [{ path, mount }, stat] = await Promise.all([placeOf(handle, mounts), handle.stat()]);
  return {
    fd: handle.fd,
    path,
    kind: kindOf(stat),
    location: locate(mount, path),
    device: { major: major(stat.rdev), minor: minor(stat.rdev) },
    memory: await memoryVolume(mount, path, mounts),
    data: stat.isDirectory() && !mayHang(mount) ? await dataLink(`/proc/self/fd/${handle.fd}`) : undefined,
    hasSubmounts: mounts.some(({ mountpoint }) => mountpoint !== path && isBelow(mountpoint, path)),
    propagates: mount.propagates,
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

async function placeOf(
  { fd }: FileHandle,
  mounts: readonly MountEntry[],
): Promise<{ readonly path: string; readonly mount: MountEntry }> {
  const [path, info] = await Promise.all([
    readlink(`/proc/self/fd/${fd}`),
    readFile(`/proc/self/fdinfo/${fd}`, 'utf8'),
  ]);
  const id = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
  const mount = mounts.find((entry) => entry.id === id);
  if (!mount) throw new CaissonError('unavailable', `${path} has just been unmounted`);
  return { path, mount };
}

function kindOf(stat: Stats): HostPathKind {
  if (stat.isDirectory()) return 'directory';
  if (stat.isFile()) return 'file';
  if (stat.isBlockDevice()) return 'block device';
  if (stat.isCharacterDevice()) return 'character device';
  return stat.isSocket() ? 'socket' : 'fifo';
}

/** As glibc's gnu_dev_major and gnu_dev_minor, for numbers that fit a double. */
const major = (device: number): number => Math.floor(device / 256) % 4096;
const minor = (device: number): number => (device % 256) + Math.floor(device / 2 ** 20) * 256;

function explain(path: string, error: unknown): CaissonError {
  if (isErrno(error, 'ENOENT'))
    return new CaissonError('failed_precondition', `host path ${JSON.stringify(path)} does not exist`);
  if (isErrno(error, 'ENOTDIR'))
    return new CaissonError('failed_precondition', `host path ${JSON.stringify(path)} leads through a file`);
  const code = isCaissonError(error) ? error.code : 'failed_precondition';
  const words = error instanceof Error ? error.message : String(error);
  return new CaissonError(code, `host path ${JSON.stringify(path)}: ${words}`, {
    cause: error,
    hint: isCaissonError(error) ? error.hint : undefined,
  });
}
