import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError, describeError } from '../../lib/errors.ts';
import { ignoreMissing, readSmallFile } from '../../lib/files.ts';

const MAX_BYTES = 256 * 1024;

/**
 * The first file of the directory, by name, that has this profile; undefined when none has. What it includes is for the
 * guest's apparmor_parser to find. Throws `failed_precondition` when a file cannot be read.
 */
export async function sourceOf(name: string, directory: string): Promise<Buffer | undefined> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(ignoreMissing([]));
  const files = entries.filter((entry) => entry.isFile() && isPolicy(entry.name)).map((entry) => entry.name);
  for (const file of files.toSorted()) {
    const text = await read(join(directory, file));
    if (defines(text, name)) return Buffer.from(text);
  }
  return undefined;
}

/** Not what editors and package managers leave behind: as apparmor_parser has it. */
const isPolicy = (file: string): boolean => !/^\.|^README|~$|\.(dpkg-\w+|rpm\w+|orig|rej|bak)$/.test(file);

async function read(path: string): Promise<string> {
  try {
    return await readSmallFile(path, MAX_BYTES);
  } catch (cause) {
    throw new CaissonError('failed_precondition', `${path} cannot be read: ${describeError(cause)}`, { cause });
  }
}

/** `profile <name> ... {`, or `<path> ... {`. The guest's kernel has the last word on what a file defines. */
const HEADER = /^[ \t]*(?:profile[ \t]+)?(?:"([^"\n]+)"|([^\s"{(]+))[^\n]*\{/gm;

const defines = (text: string, name: string): boolean =>
  text.matchAll(HEADER).some(([, quoted, plain]) => (quoted ?? plain) === name);
