import { constants, existsSync, statSync } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { CaissonError, isErrno } from './errors.ts';

/** Writes a file so that a crash leaves either the old or the new content, never a part of it. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', mode);
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, ignoreMissing(false));
}

export async function readFileIfExists(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(ignoreMissing(undefined));
}

export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

/** Throws `invalid_argument` for what is no file or larger; a FIFO or a device is not waited for. */
export async function readSmallFile(path: string, maxBytes: number): Promise<string> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const info = await file.stat();
  if (!info.isFile()) throw new CaissonError('invalid_argument', 'it is not a file');
  if (info.size > maxBytes) throw new CaissonError('invalid_argument', `it is larger than ${maxBytes} bytes`);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(maxBytes), 0, maxBytes, 0);
  return buffer.subarray(0, bytesRead).toString('utf8');
}

/** A rejection handler that turns ENOENT into a value and passes every other error on. */
export function ignoreMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (isErrno(error, 'ENOENT')) return value;
    throw error;
  };
}

/** Where a program is by PATH; the name itself when it is a path or is not found. */
export function findProgram(name: string): string {
  if (name.includes('/')) return name;
  const places = (process.env['PATH'] ?? '').split(delimiter).map((directory) => join(directory, name));
  return places.find((place) => existsSync(place)) ?? name;
}

/** Changes when the file is replaced or written; empty when there is none. Cheap: one stat. */
export function fileVersion(path: string): string {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found ? `${found.ino}:${found.mtimeNs}` : '';
}
